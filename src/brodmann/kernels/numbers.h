// Numbers and vectors of them: how they are loaded, multiplied, summed and rounded.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

template <class C>
struct Lanes {
  static constexpr int64_t count = 64 / sizeof(C);
  typedef C Vector __attribute__((vector_size(64)));
};

template <class C>
using Vector = typename Lanes<C>::Vector;

// bfloat16: the upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

template <class C>
inline C widen(C value) {
  return value;
}

inline float widen(BFloat16 value) {
  uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

template <class C>
inline Vector<C> load(const C* from) {
  Vector<C> vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline Vector<float> load(const BFloat16* from) {
  typedef uint16_t Halves __attribute__((vector_size(32)));
  typedef uint32_t Words __attribute__((vector_size(64)));
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  Words words = __builtin_convertvector(halves, Words) << 16;
  Vector<float> wide;
  std::memcpy(&wide, &words, sizeof wide);
  return wide;
}

typedef uint32_t Words __attribute__((vector_size(64)));

// Two bfloat16 numbers in one word, the first in its lower half. Processors with AVX512-BF16 multiply and add sixteen
// pairs at once, each product exact, the sum in float32: twice the multiply-adds of float32.
struct Pair {
  uint32_t bits;
};

template <>
struct Lanes<Pair> {
  static constexpr int64_t count = 16;
};

inline Words load(const Pair* from) {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
}

inline Vector<float> everywhere(float value) { return value - Vector<float>{}; }
inline Vector<double> everywhere(double value) { return value - Vector<double>{}; }
inline Words everywhere(Pair pair) { return pair.bits - Words{}; }

template <class V>
inline void multiply_add(V& sum, const V& a, const V& b) {
  sum += a * b;
}

template <class C, class W>
inline C product(C a, W b) {
  return a * widen(b);
}

inline float product(Pair a, Pair b) {
  const auto half = [](Pair pair, int shift) { return widen(BFloat16{uint16_t(pair.bits >> shift)}); };
  return half(a, 0) * half(b, 0) + half(a, 16) * half(b, 16);
}

#ifdef __AVX512BF16__
inline void multiply_add(Vector<float>& sum, const Words& a, const Words& b) {
  sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
#endif

// a, b = the lower halves of both, lane by lane in turns, and the upper halves.
template <class V>
inline void interleave_sixteen(V& a, V& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  b = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  a = low;
}

inline void interleave(Vector<float>& a, Vector<float>& b) { interleave_sixteen(a, b); }
inline void interleave(Words& a, Words& b) { interleave_sixteen(a, b); }

inline void interleave(Vector<double>& a, Vector<double>& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  b = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  a = low;
}

// vectors[0] = the sums of the lanes of 2 Half vectors, each in as many lanes as are left over.
template <int Half, class V>
inline void fold(V* vectors) {
#pragma GCC unroll 8
  for (int k = 0; k < Half; ++k) {
    interleave(vectors[k], vectors[k + Half]);
    vectors[k] += vectors[k + Half];
  }
  if constexpr (Half > 1) fold<Half / 2>(vectors);
}

// sums[k] = the sum of the lanes of vectors[k], for Count vectors. As many vectors as there are lanes cost three
// instructions each, where every sum on its own would cost a dozen.
template <int Count, class C>
inline void sum_lanes(const Vector<C>* vectors, C* sums) {
  constexpr int lanes = Lanes<C>::count;
  Vector<C> some[lanes];
#pragma GCC unroll 16
  for (int k = 0; k < lanes; ++k) some[k] = k < Count ? vectors[k] : Vector<C>{};
  fold<lanes / 2>(some);
  std::memcpy(sums, &some[0], sizeof(C) * std::min(lanes, Count));
  if constexpr (Count > lanes) sum_lanes<Count - lanes>(vectors + lanes, sums + lanes);
}

// Rounds new weights to bfloat16: up with a probability equal to the share that rounding down would lose, so that small
// updates survive on average. The random bits are a hash of the seed and the weight's index.
inline void round_stochastically(const float* from, BFloat16* to, int64_t count, uint32_t seed, uint32_t index) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t noise = (index + uint32_t(i) + seed) * 0x9E3779B1u >> 16;
    uint32_t bits;
    std::memcpy(&bits, from + i, sizeof bits);
    const uint32_t raised = bits + noise, rounded = (bits & 0x7F800000u) == 0x7F800000u ? bits : raised;
    to[i].bits = static_cast<uint16_t>(rounded >> 16);
  }
}

}  // namespace
