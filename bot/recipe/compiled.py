"""Go, Rust, Ruby, PHP and Java (Maven, Gradle)."""

import re
import shlex
from collections.abc import Sequence

from bot.recipe.recipe import Layer, Part, Read, folders_with, sources_of


def go(files: Sequence[str], read: Read) -> Part | None:
    folders = ("",) if "go.work" in files else folders_with(files, ("go.mod",))
    if not folders or not ({"go.work"} | {f"{folder}go.mod" for folder in folders}) & set(files):
        return None
    layers = []
    manifests = [path for path in files if path.rpartition("/")[2] in ("go.mod", "go.sum", "go.work", "go.work.sum")]
    for folder in folders:
        at = f"cd {shlex.quote(folder)} && " if folder else ""
        source = f"{folder}go.mod" if f"{folder}go.mod" in files else "go.work"
        vendored = f"{folder}vendor/modules.txt" in files
        requires = source == "go.work" or re.search(r"^[^\S\n]*require\b", read(source) or "", re.MULTILINE)
        if requires and not vendored:
            layers.append(_layer("dependencies", source, f"{at}go mod download", manifests, "go"))
        # Compiles what the tests need into the build cache; a package that does not compile is no reason to stop.
        warm = f"{at}{{ go test -count=1 -run '^$' ./... >/dev/null 2>&1 || true; }}"
        layers.append(_layer("compiled packages", source, warm, manifests, "go", optional=bool(layers)))
    return Part(language="Go", sources=tuple(dict.fromkeys(one.source for one in layers)), layers=tuple(layers),
                tests=(("go", "test", "./..."),), setup="go mod download")  # fmt: skip


def rust(files: Sequence[str], read: Read) -> Part | None:
    folders = folders_with(files, ("Cargo.toml",))
    if not folders:
        return None
    layers = []
    for folder in folders:
        manifests = [
            path
            for path in files
            if path.startswith(folder)
            and (
                path.rpartition("/")[2] in ("Cargo.toml", "Cargo.lock")
                or path.startswith(("rust-toolchain", ".cargo/"))
            )
        ]
        at = f"cd {shlex.quote(folder)} && " if folder else ""
        locked = f"{folder}Cargo.lock" in files
        source = f"{folder}Cargo.toml" + (f", {folder}Cargo.lock" if locked else "")
        fetch = f"{at}cargo fetch{' --locked' if locked else ''}"
        layers.append(_layer("dependencies", source, fetch, manifests, "cargo"))
        # Jobs copy `target`, so one that would not fit into their memory is dropped.
        warm = (
            f"{at}{{ cargo test --workspace --no-run --offline >/dev/null 2>&1 || true; }}; "
            'if [ "$(du -sk target 2>/dev/null | cut -f1)" -gt 400000 ] 2>/dev/null; then rm -rf target; fi'
        )
        layers.append(_layer("compiled crates", source, warm, manifests, "cargo", optional=True))
    return Part(language="Rust", sources=sources_of(layers),
                layers=tuple(layers), tests=(("cargo", "test", "--offline", "--no-fail-fast"),),
                setup="cargo fetch")  # fmt: skip


def ruby(files: Sequence[str], read: Read) -> Part | None:
    if "Gemfile" not in files:
        return None
    manifests = [f for f in files if f in ("Gemfile", "Gemfile.lock", ".ruby-version") or f.endswith(".gemspec")]
    versions = [f for f in files if f.startswith("lib/") and f.endswith("version.rb")]
    text = (read("Gemfile") or "") + (read("Gemfile.lock") or "")
    frozen = "BUNDLE_FROZEN=true " if "Gemfile.lock" in files else ""
    command = f"BUNDLE_SILENCE_ROOT_WARNING=1 {frozen}bundle install --jobs 4 --retry 2"
    rspec = "rspec" in text or any(f.startswith("spec/") for f in files)
    test = ("bundle", "exec", "rspec") if rspec else ("bundle", "exec", "rake", "test")
    source = "Gemfile" + (", Gemfile.lock" if frozen else "")
    return Part(language="Ruby", sources=tuple(source.split(", ")), tests=(test,), setup="bundle install",
                layers=(_layer("dependencies", source, command, [*manifests, *versions], "bundle"),))  # fmt: skip


def php(files: Sequence[str], read: Read) -> Part | None:
    if "composer.json" not in files:
        return None
    manifests = [f for f in files if f in ("composer.json", "composer.lock")]
    # An extension that the image lacks may be for a part that no test needs.
    command = "COMPOSER_ALLOW_SUPERUSER=1 composer install --no-interaction --no-progress --ignore-platform-req='ext-*'"
    layer = _layer("dependencies", ", ".join(manifests), command, manifests, "composer")
    if '"classmap"' in (read("composer.json") or ""):
        layer = layer.model_copy(update={"whole_tree": True})  # what is loaded is listed then
    layers = () if "vendor/autoload.php" in files else (layer,)
    return Part(language="PHP", sources=tuple(manifests), layers=layers, setup="composer install")


def java(files: Sequence[str], read: Read) -> Part | None:
    if "pom.xml" in files:
        return _maven(files)
    builds = [f for f in ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts") if f in files]
    return _gradle(files, builds[0]) if builds else None


# Java takes the home of whoever runs it from the system's list of users, where a job's user is not. Maven's script and
# its wrapper read this file by the variable.
_MAVEN_HOME = """printf '%s\\n' 'MAVEN_OPTS="$MAVEN_OPTS -Duser.home=$HOME"' >"$HOME/.mavenrc\""""


def _maven(files: Sequence[str]) -> Part:
    poms = [f for f in files if f.rpartition("/")[2] == "pom.xml" or f.startswith(".mvn/")]
    maven = "sh ./mvnw" if "mvnw" in files else "mvn"
    package = f"{maven} -B -q -DskipTests package"
    # Surefire loads what runs the tests only once a class of them is chosen; no method in it has that name. One that
    # can't choose so fails, and may have loaded it.
    provider = f"{maven} -B -q test -Dtest='*#noSuchTest' -DfailIfNoTests=false -Dsurefire.failIfNoSpecifiedTests=false"
    programs = ("java",) if "mvnw" in files else ("mvn",)
    layer = Layer(name="dependencies", source="pom.xml", commands=(_MAVEN_HOME, package, f"{provider} || true"),
                  keyed_by=tuple(poms), programs=programs)  # fmt: skip
    # Without -q, which leaves out how many tests ran.
    test = (*maven.split(), "-o", "-B", "-fae", "test")
    return Part(language="Java", sources=("pom.xml",), layers=(layer,), tests=(test,), setup=package)


def _gradle(files: Sequence[str], build: str) -> Part:
    manifest = re.compile(r"(^|/)([\w.-]*\.gradle(\.kts)?|gradle\.(properties|lockfile))$|^gradle/")
    manifests = [f for f in files if manifest.search(f)]
    gradle = "sh ./gradlew" if "gradlew" in files else "gradle"
    layer = _layer("dependencies", build, f"{gradle} --no-daemon -q testClasses", manifests,
                   "java" if "gradlew" in files else "gradle")  # fmt: skip
    test = (*gradle.split(), "--offline", "--no-daemon", "--continue", "test")  # without -q, which names no test
    return Part(language="Java", sources=(build,), layers=(layer,), tests=(test,), setup=layer.commands[0])


def _layer(
    name: str, source: str, command: str, keyed_by: Sequence[str], program: str, *, optional: bool = False
) -> Layer:
    return Layer(name=name, source=source, commands=(command,), keyed_by=tuple(keyed_by), programs=(program,),
                 optional=optional)  # fmt: skip
