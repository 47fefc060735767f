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
from dataclasses import dataclass

from engine.cache.blocks import BlockAllocator

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

    def __init__(self, allocator: BlockAllocator, block_size: int) -> None:
        self.allocator = allocator
        self.block_size = block_size
        self.root = Node(None, [], [], 0, 0.0)
        self.blocks = 0  # held by the tree
        self._tick = 0

    def match(self, tokens: Sequence[int], limit: int) -> Match:
        """Longest cached prefix of `tokens[:limit]`. References are unchanged: hold the blocks before anything else."""
        self._tick += 1
        size = self.block_size
        node = self.root
        blocks: list[int] = []
        position = 0
        while position + size <= limit:
            child = node.children.get(tuple(tokens[position : position + size]))
            if child is None:
                break
            child.used = self._tick
            count = 0
            for key in child.keys:
                if position + size > limit or key != tuple(tokens[position : position + size]):
                    break
                count += 1
                position += size
            blocks.extend(child.blocks[:count])
            if count < len(child.keys):
                return self._with_copy(blocks, [(child.keys[count], child.blocks[count])], tokens[position:limit])
            node = child
        ends = []
        rest = tokens[position : min(limit, position + size)]
        for key, child in node.children.items():
            if rest and key[0] == rest[0]:
                ends.append((key, child.blocks[0]))
                child.used = self._tick
        return self._with_copy(blocks, ends, rest)

    def _with_copy(self, blocks: list[int], ends: list[tuple[Key, int]], rest: Sequence[int]) -> Match:
        best, source, whole = 0, -1, False
        for key, block in ends:
            common = 0
            for one, other in zip(key, rest, strict=False):
                if one != other:
                    break
                common += 1
            if common > best:
                best, source, whole = common, block, common == len(key)
        return Match(blocks, source, best, whole)

    def insert(self, tokens: Sequence[int], blocks: Sequence[int], lease: float = 0.0) -> None:
        """Cache `tokens`, whose keys and values lie in `blocks` in order. Tokens that are cached already stay where
        they are.

        New entries take a reference to their block. Every node on the path is leased until `lease` at least.
        """
        self._tick += 1
        size = self.block_size
        whole = len(tokens) // size
        keys = [tuple(tokens[i * size : (i + 1) * size]) for i in range(whole)]
        node = self.root
        index = 0
        while index < whole:
            child = node.children.get(keys[index])
            if child is None:
                node = self._append(node, keys[index:], list(blocks[index:whole]), lease)
                index = whole
                break
            count = 1
            while count < len(child.keys) and index + count < whole and child.keys[count] == keys[index + count]:
                count += 1
            if count < len(child.keys):
                child = self._split(child, count)
            child.used = self._tick
            child.lease = max(child.lease, lease)
            index += count
            node = child
        rest = tuple(tokens[whole * size :])
        if rest:
            self._insert_partial(node, rest, blocks[whole], lease)

    def _append(self, node: Node, keys: list[Key], blocks: list[int], lease: float) -> Node:
        self._drop_covered(node, keys[0])
        self.allocator.hold(blocks)
        self.blocks += len(blocks)
        if node.parent is not None and not node.children:  # prolong the edge
            node.keys.extend(keys)
            node.blocks.extend(blocks)
            node.used = self._tick
            node.lease = max(node.lease, lease)
            return node
        child = Node(node, keys, blocks, self._tick, lease)
        node.children[keys[0]] = child
        return child

    def _insert_partial(self, node: Node, key: Key, block: int, lease: float) -> None:
        for other, child in node.children.items():
            if other[: len(key)] == key:  # something at least as long is there
                child.used = self._tick
                child.lease = max(child.lease, lease)
                return
        self._drop_covered(node, key)
        self.allocator.hold([block])
        self.blocks += 1
        node.children[key] = Node(node, [key], [block], self._tick, lease)

    def _drop_covered(self, node: Node, key: Key) -> None:
        """Remove partial leaves that `key` begins with."""
        covered = [other for other in node.children if len(other) < len(key) and key[: len(other)] == other]
        for other in covered:
            self._release(node.children.pop(other).blocks)

    def _split(self, node: Node, count: int) -> Node:
        """Cut an edge after `count` blocks; return the new upper part."""
        assert node.parent is not None
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
        freed = [block for node in self.nodes() for block in self._release(node.blocks)]
        self.root.children.clear()
        return freed

    def _release(self, blocks: list[int]) -> list[int]:
        self.blocks -= len(blocks)
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
        assert len(seen) == len(set(seen)) == self.blocks, "each block has one place in the tree"
        assert all(self.allocator.refs[block] >= 1 for block in seen)
