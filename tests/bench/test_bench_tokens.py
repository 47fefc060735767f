from tests.bench.bench_tokens import count


def test_a_token_counts_once_where_no_earlier_prompt_or_output_had_led_to_it():
    events = [
        ("prompt", [1, 2, 3]),
        ("prompt", [1, 2, 4]),  # one more
        ("output", [1, 2, 3, 7, 8]),
        ("prompt", [1, 2, 3, 7, 8, 9]),  # only the last was neither asked nor answered before
        ("prompt", [2, 3]),  # the same tokens elsewhere are others
    ]
    assert count(events) == {"prompts": 4, "prompt_tokens": 14, "distinct_prompt_tokens": 3 + 1 + 1 + 2}
