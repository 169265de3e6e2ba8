// Numbers and vectors of them: how they are loaded, multiplied, summed and rounded.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#ifdef __FMA__
#include <immintrin.h>
#endif

#include "registers.h"

namespace {

// Before loops that count through vectors, which the compiler would otherwise keep in memory.
#define UNROLLED _Pragma("GCC unroll 16")

template <class C>
struct Lanes {
  static constexpr int64_t count = kBytes / sizeof(C);
  typedef C Vector __attribute__((vector_size(kBytes)));
};

template <class C>
using Vector = typename Lanes<C>::Vector;

// bfloat16: the upper half of a float32. There are no vectors of them: they are widened when they are loaded.
struct BFloat16 {
  uint16_t bits;
};

template <>
struct Lanes<BFloat16> {};

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

typedef uint16_t Halves __attribute__((vector_size(kBytes / 2)));
typedef uint32_t Words __attribute__((vector_size(kBytes)));

// By name: GCC takes four instructions for what is one.
#if defined(__AVX512F__)
inline Words as_words(const Halves& halves) { return (Words)_mm512_cvtepu16_epi32((__m256i)halves); }
inline Halves as_halves(const Words& words) { return (Halves)_mm512_cvtepi32_epi16((__m512i)words); }
#else
inline Words as_words(const Halves& halves) { return __builtin_convertvector(halves, Words); }
inline Halves as_halves(const Words& words) { return __builtin_convertvector(words, Halves); }
#endif

inline Vector<float> load(const BFloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  const Words words = as_words(halves) << 16;
  Vector<float> wide;
  std::memcpy(&wide, &words, sizeof wide);
  return wide;
}

// Two bfloat16 numbers in one word, the first in its lower half. Processors with AVX512-BF16 multiply and add sixteen
// pairs at once, each product exact, the sum in float32: twice the multiply-adds of float32.
struct Pair {
  uint32_t bits;
};

template <>
struct Lanes<Pair> {
  static constexpr int64_t count = kBytes / sizeof(Pair);
};

inline Words load(const Pair* from) {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
}

// Copies fewer than `Room` numbers, in pieces whose sizes the compiler knows: a call of memcpy would take longer.
template <int64_t Room, class T>
inline void copy_some(const T* from, T* to, int64_t count) {
  if constexpr (Room > 1) {
    if (count & (Room / 2)) {
      std::memcpy(to, from, Room / 2 * sizeof(T));
      from += Room / 2, to += Room / 2;
    }
    copy_some<Room / 2>(from, to, count);
  }
}

// The first `count` numbers, fewer than a vector; the others are zero.
template <class W>
inline auto load_some(const W* from, int64_t count) -> decltype(load(from)) {
  constexpr int64_t lanes = sizeof(load(from)) / sizeof(load(from)[0]);
  W some[lanes] = {};
  copy_some<lanes>(from, some, count);
  const W* const start = some;
  return load(start);
}

#if defined(__AVX512F__)
inline Vector<float> load_some(const float* from, int64_t count) {
  return (Vector<float>)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from);
}
inline Vector<double> load_some(const double* from, int64_t count) {
  return (Vector<double>)_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), from);
}
inline Words load_some(const Pair* from, int64_t count) {
  return (Words)_mm512_maskz_loadu_epi32(__mmask16((1u << count) - 1), from);
}
#elif defined(__AVX__)
inline Vector<float> load_some(const float* from, int64_t count) {
  static const int32_t mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return (Vector<float>)_mm256_maskload_ps(from, _mm256_loadu_si256((const __m256i*)(mask + 8 - count)));
}
inline Vector<double> load_some(const double* from, int64_t count) {
  static const int64_t mask[8] = {-1, -1, -1, -1};
  return (Vector<double>)_mm256_maskload_pd(from, _mm256_loadu_si256((const __m256i*)(mask + 4 - count)));
}
#endif

// The first `count` numbers; the others are zero.
template <class W, class Count>
inline auto load(const W* from, Count count) -> decltype(load(from)) {
  constexpr int64_t lanes = sizeof(load(from)) / sizeof(load(from)[0]);
  if (count >= lanes) return load(from);
  return load_some(from, int64_t(count));
}

template <class V, class C, class Count>
inline void store(const V& vector, C* to, Count count) {
  constexpr int64_t lanes = sizeof(V) / sizeof(C);
  if (count >= lanes) {
    std::memcpy(to, &vector, sizeof vector);
    return;
  }
  C numbers[lanes];
  std::memcpy(numbers, &vector, sizeof vector);
  copy_some<lanes>(numbers, to, int64_t(count));
}

template <class V>
inline V root(V vector) {
  decltype(vector[0] + vector[0]) numbers[sizeof(V) / sizeof(vector[0])];
  std::memcpy(numbers, &vector, sizeof vector);
  for (auto& number : numbers) number = std::sqrt(number);
  std::memcpy(&vector, numbers, sizeof vector);
  return vector;
}

// By name: amid other code GCC takes the root of one number after the other.
#if defined(__AVX512F__)
inline Vector<float> root(Vector<float> vector) { return (Vector<float>)_mm512_sqrt_ps((__m512)vector); }
inline Vector<double> root(Vector<double> vector) { return (Vector<double>)_mm512_sqrt_pd((__m512d)vector); }
#elif defined(__AVX__)
inline Vector<float> root(Vector<float> vector) { return (Vector<float>)_mm256_sqrt_ps((__m256)vector); }
inline Vector<double> root(Vector<double> vector) { return (Vector<double>)_mm256_sqrt_pd((__m256d)vector); }
#endif

inline Vector<float> everywhere(float value) { return value - Vector<float>{}; }
inline Vector<double> everywhere(double value) { return value - Vector<double>{}; }
inline Words everywhere(Pair pair) { return pair.bits - Words{}; }

// Keeps a vector in a register. Left alone, the compiler would rather read it from memory at every use, and a processor
// that loads one vector while it multiplies one would then take twice the time.
template <class V>
inline void pin(V& vector) {
#if defined(__GNUC__) && defined(__AVX__)
  asm("" : "+v"(vector));
#else
  (void)vector;
#endif
}

// Forgets how an address came about. Left alone, the compiler would keep one in a register for each of the vectors that
// lie behind it, run out of registers, and fetch them from memory.
template <class T>
inline T* anchored(T* address) {
#if defined(__GNUC__)
  asm("" : "+r"(address));
#endif
  return address;
}

template <class V>
inline void multiply_add(V& sum, const V& a, const V& b) {
  sum += a * b;
}

// By name: left alone, GCC fuses or does not by what else is in a loop, so that a tile of one row would round otherwise
// than one of six, and results would depend on how threads cut the rows.
#if defined(__AVX512F__)
inline void multiply_add(Vector<float>& sum, const Vector<float>& a, const Vector<float>& b) {
  sum = (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
}
inline void multiply_add(Vector<double>& sum, const Vector<double>& a, const Vector<double>& b) {
  sum = (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)sum);
}
#elif defined(__FMA__)
inline void multiply_add(Vector<float>& sum, const Vector<float>& a, const Vector<float>& b) {
  sum = (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
}
inline void multiply_add(Vector<double>& sum, const Vector<double>& a, const Vector<double>& b) {
  sum = (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)sum);
}
#endif

#ifdef BRODMANN_PAIRS
inline void multiply_add(Vector<float>& sum, const Words& a, const Words& b) {
  sum = (Vector<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
#endif

// Swaps the lanes of `a` whose number has the bit Distance with those of `b` that lack it.
template <int Distance, class V, int... Lane>
inline void exchange(V& a, V& b, std::integer_sequence<int, Lane...>) {
  constexpr int lanes = sizeof...(Lane);
  const V first = __builtin_shufflevector(a, b, (Lane & Distance ? lanes + Lane - Distance : Lane)...);
  b = __builtin_shufflevector(a, b, (Lane & Distance ? lanes + Lane : Lane + Distance)...);
  a = first;
}

template <int Distance, class V>
inline void exchange(V& a, V& b) {
  exchange<Distance>(a, b, std::make_integer_sequence<int, sizeof(V) / sizeof(a[0])>{});
}

// vectors[k][l] = vectors[l][k] for as many vectors as they have lanes: 2 Half.
template <int Half, class V>
inline void transpose(V* vectors) {
  constexpr int lanes = sizeof(V) / sizeof(vectors[0][0]);
  UNROLLED for (int k = 0; k < lanes; ++k) {
    if (!(k & Half)) exchange<Half>(vectors[k], vectors[k + Half]);
  }
  if constexpr (Half > 1) transpose<Half / 2>(vectors);
}

// vectors[0][k] = the sum of the lanes of vectors[k], for as many vectors as they have lanes: 2 Half.
template <int Half, class V>
inline void fold(V* vectors) {
  UNROLLED for (int k = 0; k < Half; ++k) {
    exchange<Half>(vectors[k], vectors[k + Half]);
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
  UNROLLED for (int k = 0; k < lanes; ++k) some[k] = k < Count ? vectors[k] : Vector<C>{};
  fold<lanes / 2>(some);
  std::memcpy(sums, &some[0], sizeof(C) * std::min(lanes, Count));
  if constexpr (Count > lanes) sum_lanes<Count - lanes>(vectors + lanes, sums + lanes);
}

// Random bits for weights from an index on, 16 each: a hash of a seed and of each weight's index.
class Noise {
 public:
  Noise(uint32_t seed, uint32_t index) {
    for (uint32_t lane = 0; lane < Lanes<float>::count; ++lane) hashes[lane] = lane;
    hashes = (hashes + (index + seed)) * kHash;
  }

  // Those of the weights that lie `further` on: the hash is linear.
  Words after(int64_t further) const { return (hashes + uint32_t(further) * kHash) >> 16; }

 private:
  static constexpr uint32_t kHash = 0x9E3779B1u;
  Words hashes;
};

// Rounds new weights to bfloat16: up with a probability equal to the share that rounding down would lose, so that small
// updates survive on average.
template <class Count>
inline void round_stochastically(const Vector<float>& from, BFloat16* to, Count count, const Words& noise) {
  Words bits;
  std::memcpy(&bits, &from, sizeof bits);
  const Words kept = from == from ? bits + noise : bits;  // what is not a number could carry into the sign
  store(as_halves(kept >> 16), to, count);
}

}  // namespace
