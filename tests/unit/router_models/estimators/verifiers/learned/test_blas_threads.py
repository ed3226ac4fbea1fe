import time

from threadpoolctl import threadpool_info, threadpool_limits

from router_models.estimators.verifiers.learned.blas_threads import one_blas_thread


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_has_one_thread_within_and_as_many_as_before_afterwards() -> None:
    with threadpool_limits(2, "blas"):
        before = threads()
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == before


def test_libraries_are_not_looked_for_each_time() -> None:
    def cpu_s(limited: object) -> float:
        began = time.thread_time()
        for _ in range(20):
            with limited():  # type: ignore[operator]
                pass
        return time.thread_time() - began

    with one_blas_thread():
        pass
    assert cpu_s(one_blas_thread) < 0.2 * cpu_s(lambda: threadpool_limits(1, "blas"))
