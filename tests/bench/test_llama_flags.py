"""Which of a processor's instructions llama.cpp is built for."""

from tests.bench.llama_flags import flags


def test_takes_all_that_the_compiler_finds_where_nothing_crashes():
    assert flags("processor : 0\nflags\t\t: fpu sse4_2 avx2 avx512bw\n") == ["-DGGML_NATIVE=ON", "-DLLAVA_BUILD=OFF"]
    assert flags("") == ["-DGGML_NATIVE=ON", "-DLLAVA_BUILD=OFF"]


def test_names_all_but_amx_where_the_processor_has_it():
    found = flags("flags\t\t: avx2 avx512bw avx512_bf16 amx_bf16 amx_tile\n")
    assert found == ["-DGGML_NATIVE=OFF", "-DGGML_AVX512=ON", "-DGGML_AVX512_BF16=ON", "-DLLAVA_BUILD=OFF"]
