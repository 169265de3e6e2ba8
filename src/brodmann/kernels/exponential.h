// Exponentials of vectors, and what is made of them: sigmoid and tanh.

#pragma once

#include <cstdint>
#include <limits>

#include "numbers.h"

namespace {

// e^x for x <= 0 as `power` (1 + rest), to a few units in the last place: 2^n e^r with |r| <= ln 2 / 2, by the series of
// e^r - 1. What would be smaller than the smallest normal number is about that.
template <class C>
struct Exponential {
  Vector<C> power, rest;
};

template <class C, class V = Vector<C>>
inline Exponential<C> exponential_of(V x) {
  constexpr int terms = sizeof(C) == 4 ? 7 : 13, digits = std::numeric_limits<C>::digits - 1;
  constexpr C high = C(0.693359375), low = C(-2.121944400546905827679e-4);  // ln 2, whose multiples by `high` are exact
  const C most_negative = std::numeric_limits<C>::min_exponent * C(0.69314718);
  const C to_whole = C(3) * C(int64_t(1) << (digits - 1));  // beside it no number has digits behind the point
  x = x > most_negative ? x : everywhere(most_negative);
  const V n = (x * C(1.442695040888963407) + to_whole) - to_whole, r = x - n * high - n * low;
  V rest = {};
  UNROLLED for (int term = terms; term > 0; --term) rest = (1 + rest) * (r * (C(1) / C(term)));
  using Whole = decltype(x > x);  // integers as wide as C
  const Whole power = (__builtin_convertvector(n, Whole) + (std::numeric_limits<C>::max_exponent - 1)) << digits;
  return {(V)power, rest};
}

// e^x, for x <= 0.
template <class C, class V = Vector<C>>
inline V exponential(V x) {
  const auto [power, rest] = exponential_of<C>(x);
  return power * (1 + rest);
}

// e^x - 1 for x <= 0, with all digits of small numbers.
template <class C, class V = Vector<C>>
inline V exponential_less_one(V x) {
  const auto [power, rest] = exponential_of<C>(x);
  return power * rest + (power - 1);
}

// y where x is a number, else x: the clamped exponential would answer to NaN by a number.
template <class V>
inline V unless_nan(const V& x, const V& y) {
  return x == x ? y : x;
}

template <class V>
inline V magnitude(const V& x) {
  return x < 0 ? -x : x;
}

template <class C, class V = Vector<C>>
inline V sigmoid(const V& x) {
  const V e = exponential<C>(-magnitude(x));
  return unless_nan<V>(x, (x < 0 ? e : everywhere(C(1))) / (1 + e));
}

// By e^x - 1, which keeps all digits of small numbers.
template <class C, class V = Vector<C>>
inline V hyperbolic_tangent(const V& x) {
  const V e = exponential_less_one<C>(-2 * magnitude(x)), y = -e / (2 + e);
  return unless_nan<V>(x, x < 0 ? -y : y);
}

}  // namespace
