"""Radix tree over cached blocks: which token prefixes have their keys and values in the cache.

Edges hold whole blocks. The end of a prefix that fills only part of a block is a leaf of its own, a *partial* node: a
sequence that continues it copies the part it shares. Every node holds one reference to each of its blocks; a running
sequence holds its own references, so a block with a single reference is cached and unused.

Eviction takes unused leaves, least recently used first, block by block from the end. A *lease* pins the blocks of a
finished request for a time (its branch may be waiting for a sandbox); leased blocks are only evicted for a caller that
insists.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.cache.blocks import BlockAllocator
from engine.cache.snapshots import Snapshots
from engine.cache.windows import WindowPool

Key = tuple[int, ...]  # the tokens of one block


class Node:
    """An edge of whole blocks and what follows it; `partial` leaves hold a single, incomplete block."""

    __slots__ = ("blocks", "children", "keys", "lease", "parent", "used")

    def __init__(self, parent: "Node | None", keys: list[Key], blocks: list[int], used: int, lease: float) -> None:
        self.parent = parent
        self.keys = keys
        self.blocks = blocks
        self.children: dict[Key, Node] = {}
        self.used = used  # tick of the last match or insert
        self.lease = lease  # until this time


@dataclass(eq=False)
class Path:
    """Where the whole blocks of a prompt were last found in a tree: its siblings need not look for them again."""

    whole: int  # blocks of the prompt
    tree: "PrefixTree | None" = None
    node: Node | None = None
    count: int = 0  # of the node's keys, that belong to it
    blocks: list[int] = field(default_factory=list)  # of all nodes down to there
    shape: int = -1  # of the tree at that time


@dataclass(frozen=True)
class Match:
    """The longest cached prefix: whole blocks, then the first `copied` tokens of block `source`.

    If these are `all` that the tree knows of that block, its only user may append to it; otherwise they must be copied
    into a new block.
    """

    blocks: list[int]
    source: int = -1
    copied: int = 0
    all: bool = False


class PrefixTree:
    """The tree of one cache. Not thread-safe: only the engine's thread calls it. Times are those of the caller's
    clock.
    """

    def __init__(
        self,
        allocator: BlockAllocator,
        block_size: int,
        snapshots: Snapshots | None = None,
        windows: Sequence[WindowPool] = (),
    ) -> None:
        """
        Args:
            allocator: of the cache's blocks.
            block_size: tokens.
            snapshots: of recurrent states at blocks of the tree, forgotten with them.
            windows: the blocks' places in layers that see a window alone.
        """
        self._snapshots = snapshots
        self._windows = windows
        self.allocator = allocator
        self.block_size = block_size
        self.root = Node(None, [], [], 0, 0.0)
        self._held = np.zeros(allocator.count, dtype=bool)  # [blocks], by the tree
        self._tick = 0
        self._shape = 0  # another whenever a `Path` may have become wrong

    def unused(self) -> int:
        """How many blocks nobody but the tree holds."""
        return int((self._held & (self.allocator.refs == 1)).sum())

    def match(self, tokens: Sequence[int], limit: int, path: Path | None = None) -> Match:
        """Longest cached prefix of `tokens[:limit]`. References are unchanged: hold the blocks before anything else.

        Args:
            tokens: of a sequence.
            limit: how many of them count.
            path: of its prompt.
        """
        self._tick += 1
        size = self.block_size
        node, count, blocks = self._known(path, limit // size)
        position = len(blocks) * size
        while True:
            first = count
            while count < len(node.keys) and position + size <= limit:
                if node.keys[count] != tuple(tokens[position : position + size]):
                    break
                count += 1
                position += size
            blocks.extend(node.blocks[first:count])
            self._note(path, node, count, position // size)
            if count < len(node.keys):
                return self._with_copy(blocks, [(node.keys[count], node.blocks[count])], tokens[position:limit])
            following = tuple(tokens[position : position + size]) if position + size <= limit else ()
            child = node.children.get(following)
            if child is None:
                break
            child.used = self._tick
            node, count = child, 0
        ends = []
        rest = tokens[position : min(limit, position + size)]
        for key, child in node.children.items():
            if rest and key[0] == rest[0]:
                ends.append((key, child.blocks[0]))
                child.used = self._tick
        return self._with_copy(blocks, ends, rest)

    def _known(self, path: Path | None, limit: int) -> tuple[Node, int, list[int]]:
        """Where to begin: a node, how many of its keys are passed, and the blocks down to there, at most `limit`."""
        if path is None or path.node is None or path.tree is not self or path.shape != self._shape:
            return self.root, 0, []
        if len(path.blocks) > limit:
            return self.root, 0, []
        node: Node | None = path.node
        while node is not None:
            node.used = self._tick
            node = node.parent
        return path.node, path.count, list(path.blocks)

    def _note(self, path: Path | None, node: Node, count: int, index: int) -> None:
        """Remember that `index` blocks lead to the first `count` of a node, unless more than the prompt's are."""
        if path is None or index - count >= path.whole:
            return
        count -= max(0, index - path.whole)
        index = min(index, path.whole)
        if path.tree is self and path.shape == self._shape and len(path.blocks) >= index:
            return
        above: list[Node] = []
        parent = node.parent
        while parent is not None:
            above.append(parent)
            parent = parent.parent
        path.blocks = [block for each in reversed(above) for block in each.blocks] + node.blocks[:count]
        path.tree, path.node, path.count, path.shape = self, node, count, self._shape

    def _with_copy(self, blocks: list[int], ends: list[tuple[Key, int]], rest: Sequence[int]) -> Match:
        best, source, whole, there = 0, -1, False, False
        for key, block in ends:
            common = 0
            for one, other in zip(key, rest, strict=False):
                if one != other:
                    break
                common += 1
            if common and (common > best or (common == best and not there)):
                best, source, whole = common, block, common == len(key)
                there = all(pool.where[block] >= 0 for pool in self._windows)
        return Match(blocks, source, best, whole)

    def insert(
        self,
        tokens: Sequence[int],
        count: int,
        blocks: Sequence[int],
        lease: float = 0.0,
        path: Path | None = None,
        since: int | None = None,
    ) -> list[int]:
        """Cache `tokens[:count]`, whose keys and values lie in `blocks` in order. Tokens that are cached already stay
        where they are.

        New entries take a reference to their block. Every node on the way is leased until `lease` at least; `path` is
        that of the tokens' prompt.

        Returns:
            The tree's blocks with the tokens from block `since` on, at least the last one; `None`: that one. Empty
            where there are no tokens.
        """
        self._tick += 1
        size, end = self.block_size, count
        whole = end // size
        node, count, known = self._known(path, whole)
        index = len(known)
        above: Node | None = node
        while above is not None:
            above.lease = max(above.lease, lease)
            above = above.parent
        while True:
            while count < len(node.keys) and index < whole:
                if node.keys[count] != tuple(tokens[index * size : (index + 1) * size]):
                    break
                count += 1
                index += 1
            if count < len(node.keys):
                node = self._split(node, count)
            node.used = self._tick
            node.lease = max(node.lease, lease)
            self._note(path, node, count, index)
            if index == whole:
                break
            child = node.children.get(tuple(tokens[index * size : (index + 1) * size]))
            if child is None:
                keys = [tuple(tokens[at * size : (at + 1) * size]) for at in range(index, whole)]
                node = self._append(node, keys, list(blocks[index:whole]), lease)
                count = len(node.keys)
                break
            node, count = child, 0
        rest = tuple(tokens[whole * size : end])
        last = [self._insert_partial(node, rest, blocks[whole], lease)] if rest else []
        first = whole - 1 + len(last)
        return [*_down_to(node, count, whole, first if since is None else min(first, since)), *last]

    def _append(self, node: Node, keys: list[Key], blocks: list[int], lease: float) -> Node:
        self._drop_covered(node, keys[0], blocks[0])
        self._hold(blocks)
        if node.parent is not None and not node.children:  # prolong the edge
            node.keys.extend(keys)
            node.blocks.extend(blocks)
            node.used = self._tick
            node.lease = max(node.lease, lease)
            return node
        child = Node(node, keys, blocks, self._tick, lease)
        node.children[keys[0]] = child
        return child

    def _insert_partial(self, node: Node, key: Key, block: int, lease: float) -> int:
        for other, child in node.children.items():
            if other[: len(key)] == key:  # something at least as long is there
                child.used = self._tick
                child.lease = max(child.lease, lease)
                return child.blocks[0]
        self._drop_covered(node, key, block)
        self._hold([block])
        node.children[key] = Node(node, [key], [block], self._tick, lease)
        return block

    def _drop_covered(self, node: Node, key: Key, block: int) -> None:
        """Remove partial leaves that `key` begins with, whose tokens are then in `block`."""
        covered = [other for other in node.children if len(other) < len(key) and key[: len(other)] == other]
        for other in covered:
            gone = node.children.pop(other).blocks
            if self._snapshots is not None:
                self._snapshots.move(gone[0], block)
            for pool in self._windows:
                pool.inherit(gone[0], block, len(other))
            self._release(gone, forget=gone[0] != block)

    def _split(self, node: Node, count: int) -> Node:
        """Cut an edge after `count` blocks; return the new upper part."""
        assert node.parent is not None
        self._shape += 1
        upper = Node(node.parent, node.keys[:count], node.blocks[:count], node.used, node.lease)
        node.parent.children[upper.keys[0]] = upper
        node.keys, node.blocks, node.parent = node.keys[count:], node.blocks[count:], upper
        upper.children[node.keys[0]] = node
        return upper

    def evict(self, count: int, now: float, insist: bool = False) -> int:
        """Free up to `count` unused blocks, least recently used leaves first; return how many were freed.

        Leases that run beyond `now` are kept, unless the caller insists: then those that end soonest go first.
        """
        refs = self.allocator.refs

        def rank(node: Node) -> tuple[float, int, int]:
            return (node.lease if node.lease > now else 0.0, node.used, id(node))

        heap = [
            (*rank(node), node)
            for node in self.nodes()
            if not node.children and refs[node.blocks[-1]] == 1 and (insist or node.lease <= now)
        ]
        heapq.heapify(heap)
        self._shape += 1
        freed = 0
        while heap and freed < count:
            node = heapq.heappop(heap)[-1]
            while node.blocks and freed < count and refs[node.blocks[-1]] == 1:
                node.keys.pop() if len(node.keys) > 1 else None
                self._release([node.blocks.pop()])
                freed += 1
            parent = node.parent
            if not node.blocks and parent is not None:
                del parent.children[node.keys[0]]
                if (
                    parent.parent is not None
                    and not parent.children
                    and refs[parent.blocks[-1]] == 1
                    and (insist or parent.lease <= now)
                ):
                    heapq.heappush(heap, (*rank(parent), parent))
        return freed

    def clear(self) -> list[int]:
        """Forget everything; return the blocks that became free because no sequence holds them."""
        self._shape += 1
        freed = [block for node in self.nodes() for block in self._release(node.blocks)]
        self.root.children.clear()
        return freed

    def _hold(self, blocks: list[int]) -> None:
        self.allocator.hold(blocks)
        self._held[blocks] = True

    def _release(self, blocks: list[int], forget: bool = True) -> list[int]:
        self._held[blocks] = False
        if forget and self._snapshots is not None:
            self._snapshots.forget(blocks)
        return self.allocator.release(blocks)

    def nodes(self) -> Iterator[Node]:
        """All nodes but the root, in no particular order."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def check_integrity(self) -> None:
        """Assert what holds between any two calls."""
        seen: list[int] = []
        for node in self.nodes():
            assert node.parent is not None
            assert node.parent.children[node.keys[0]] is node
            assert len(node.keys) == len(node.blocks) >= 1
            partial = len(node.keys[-1]) < self.block_size
            assert not partial or (len(node.keys) == 1 and not node.children), "only leaves are partial"
            assert all(len(key) == self.block_size for key in node.keys[:-1])
            for other in node.parent.children:
                assert other == node.keys[0] or other[: len(node.keys[0])] != node.keys[0], "a partial leaf is covered"
            seen.extend(node.blocks)
        assert sorted(seen) == np.flatnonzero(self._held).tolist(), "each block has one place in the tree"
        assert all(self.allocator.refs[block] >= 1 for block in seen)


def _down_to(node: Node, count: int, end: int, first: int) -> list[int]:
    """Of the `end` blocks that lead to the first `count` of a node, those from the `first`-th on."""
    found, begin = node.blocks[:count], end - count
    while begin > first and node.parent is not None:
        node = node.parent
        found, begin = [*node.blocks, *found], begin - len(node.blocks)
    return found[max(0, first - begin) :]
