import asyncio

import pytest

from server.engine.turns import Turns


def test_few_go_on_in_one_pass_of_the_loop() -> None:
    async def main() -> list[object]:
        loop, turns, seen = asyncio.get_running_loop(), Turns(2), list[object]()

        async def answer(number: int) -> None:
            await turns.take()
            seen.append(number)

        def arrive(passes: int) -> None:  # what comes in is seen in every pass
            seen.append("new")
            if passes:
                loop.call_soon(arrive, passes - 1)

        answers = [asyncio.create_task(answer(number)) for number in range(6)]
        loop.call_soon(arrive, 3)
        await asyncio.gather(*answers)
        return seen

    seen = asyncio.run(main())
    assert [one for one in seen if one != "new"] == list(range(6))  # in the order of the calls
    gaps = "".join("." if one == "new" else "x" for one in seen).split(".")
    assert max(map(len, gaps)) <= 2


def test_one_alone_does_not_wait() -> None:
    async def main() -> None:
        turns = Turns(1)
        for _ in range(3):
            taking = turns.take()
            with pytest.raises(StopIteration):  # it ends without waiting
                taking.send(None)
            await asyncio.sleep(0)

    asyncio.run(main())


def test_one_that_is_cancelled_takes_no_turn() -> None:
    async def main() -> list[int]:
        turns, seen = Turns(1), list[int]()

        async def answer(number: int) -> None:
            await turns.take()
            seen.append(number)

        answers = [asyncio.create_task(answer(number)) for number in range(4)]
        await asyncio.sleep(0)
        answers[1].cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        return seen

    assert asyncio.run(main()) == [0, 2, 3]
