"""Job ids, which are all that the queue carries."""

from bot.records import Record

RUN, COMMAND = "run", "command"


class JobId(Record):
    """`run:ID:ATTEMPT` or `command:ID`.

    The attempt makes the id a new one after each claim, so that a queue that remembers ids accepts it again. It has no
    other meaning: executing the job claims the run, whatever its attempt is by then.
    """

    kind: str
    id: int


def run_job(run_id: int, attempt: int = 0) -> str:
    return f"{RUN}:{run_id}:{attempt}"


def command_job(command_id: int) -> str:
    return f"{COMMAND}:{command_id}"


def parse(job_id: str) -> JobId:
    """Raises ValueError for anything that is not a job id."""
    match job_id.split(":"):
        case ["run", number, attempt] if number.isdecimal() and attempt.isdecimal():
            return JobId(kind=RUN, id=int(number))
        case ["command", number] if number.isdecimal():
            return JobId(kind=COMMAND, id=int(number))
    raise ValueError(f"{job_id!r} is not a job id; they look like run:12:0 or command:7")
