"""CMake's flags for llama.cpp on this processor, printed for `CMAKE_ARGS`.

`GGML_NATIVE` takes all that the compiler finds. On a processor with AMX that is one thing too many: llama.cpp's code
for it crashes. There everything but AMX is named instead.
"""

import platform
from pathlib import Path

ALWAYS = ["-DLLAVA_BUILD=OFF"]  # models of pictures, nothing of which is compared
# What a processor calls a set of instructions, and llama.cpp's option for it. AVX2, FMA, F16C and BMI2 are its default.
OPTIONS = {
    "avx512bw": "GGML_AVX512",
    "avx512vbmi": "GGML_AVX512_VBMI",
    "avx512_vnni": "GGML_AVX512_VNNI",
    "avx512_bf16": "GGML_AVX512_BF16",
}


def flags(cpuinfo: str) -> list[str]:
    """The flags, by the text of /proc/cpuinfo (empty where there is none)."""
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    has = set(line.partition(":")[2].split())
    if not any(name.startswith("amx") for name in has):
        return ["-DGGML_NATIVE=ON", *ALWAYS]
    return ["-DGGML_NATIVE=OFF", *(f"-D{option}=ON" for name, option in OPTIONS.items() if name in has), *ALWAYS]


if __name__ == "__main__":
    path = Path("/proc/cpuinfo")
    print(*flags(path.read_text() if platform.system() == "Linux" and path.exists() else ""))
