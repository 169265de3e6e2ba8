// How threads are called: those of PyTorch's own OpenMP library, which are there anyway.

#pragma once

#include <cstdint>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#ifdef __SANITIZE_THREAD__
#include <thread>
#include <vector>
#endif

// What a parallel region is compiled to, called by name: compilers would otherwise bring an OpenMP library of their own, and a
// second pool of threads beside PyTorch's. LLVM's and Intel's libraries have these functions as well as GNU's.
extern "C" {
void GOMP_parallel(void (*run)(void*), void* data, unsigned threads, unsigned flags);
int omp_get_thread_num();
int omp_get_num_threads();
}

namespace {

constexpr int64_t kSmall = 1 << 19;  // multiply-adds below which one thread is as fast as several, or faster

// While it lives, its thread takes numbers too small for all of their digits as 0. Processors are many times slower with
// them, and Adam's means of an input that is always 0, as pixels at an edge are, shrink into them and stay.
class Flushed {
 public:
#if defined(__SSE2__)
  Flushed() : before(_mm_getcsr()) { _mm_setcsr(before | 0x8040); }
  ~Flushed() { _mm_setcsr(before); }

 private:
  unsigned before;
#elif defined(__aarch64__)
  Flushed() {
    asm volatile("mrs %0, fpcr" : "=r"(before));
    asm volatile("msr fpcr, %0" : : "r"(before | uint64_t(1) << 24));
  }
  ~Flushed() { asm volatile("msr fpcr, %0" : : "r"(before)); }

 private:
  uint64_t before;
#else
  Flushed() {}
  ~Flushed() {}
#endif
};

// Calls body(0) .. body(threads - 1), each on its own thread where `work`, the multiply-adds of all, is worth it.
template <class Body>
void team(int64_t work, int threads, const Body& body) {
#if defined(__SANITIZE_THREAD__)  // which cannot see how OpenMP's threads wait for each other
  std::vector<std::thread> others;
  for (int thread = 0; thread < threads; ++thread) {
    others.emplace_back([&body, thread] {
      const Flushed flushed;
      body(thread);
    });
  }
  for (auto& other : others) other.join();
#else
#if defined(BRODMANN_OPENMP)
  if (threads > 1 && work > kSmall) {
    struct Call {
      const Body& body;
      int threads;
    } call{body, threads};
    const auto run = [](void* of) {  // there may be fewer threads than were asked for
      const Call& me = *static_cast<const Call*>(of);
      const Flushed flushed;
      for (int thread = omp_get_thread_num(); thread < me.threads; thread += omp_get_num_threads()) me.body(thread);
    };
    return GOMP_parallel(run, &call, unsigned(threads), 0);
  }
#endif
  (void)work;
  const Flushed flushed;
  for (int thread = 0; thread < threads; ++thread) body(thread);
#endif
}

// Calls body(row) for all rows, each thread for its share of them; a row takes `work` multiply-adds.
template <class Body>
void each_row(int threads, int64_t rows, int64_t work, const Body& body) {
  team(rows * work, threads, [&](int thread) {
    for (int64_t row = rows * thread / threads; row < rows * (thread + 1) / threads; ++row) body(row);
  });
}

}  // namespace
