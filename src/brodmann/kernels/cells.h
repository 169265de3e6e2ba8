// Cells of recurrent layers: the next state from the outputs of both maps, and how errors go back through it, each in
// one pass where PyTorch makes ten over a few thousand numbers.

#pragma once

#include <algorithm>
#include <cstdint>

#include "numbers.h"
#include "threads.h"

namespace {

constexpr int64_t kOfCell = 64;  // multiply-adds that a unit takes, about

// y where x is a number, else x, which the bounds of an exponential would hide.
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
inline V tangent(const V& x) {
  const V e = exponential_less_one<C>(-2 * magnitude(x)), y = -e / (2 + e);
  return unless_nan<V>(x, x < 0 ? -y : y);
}

// Calls body(row, unit, count) for vectors of the units of all rows, `count` of them, or fewer in a row's last.
template <class C, class Body>
inline void each_units(int threads, int64_t rows, int64_t units, const Body& body) {
  constexpr int64_t lanes = Lanes<C>::count;
  each_row(threads, rows, units * kOfCell, [&](int64_t row) {
    for (int64_t unit = 0; unit < units; unit += lanes) body(row, unit, units - unit);
  });
}

// i = sigmoid(i), f = sigmoid(f), g = tanh(g), o = sigmoid(o) of below + before, c = f c_before + i g, h = o tanh(c). Below
// (rows, 4 units), whose rows lie `stride` apart, before and gates (rows, 4 units), all others (rows, units).
template <class C>
void lstm(int threads, int64_t rows, int64_t units, const C* below, int64_t stride, const C* before, const C* c_before,
          C* gates, C* c, C* squashed, C* h) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t count) {
    const int64_t at = row * units + unit, first = 4 * row * units + unit;
    const auto gate = [&](int64_t number) {
      return load(below + row * stride + number * units + unit, count) + load(before + first + number * units, count);
    };
    const Vector<C> i = sigmoid<C>(gate(0)), f = sigmoid<C>(gate(1)), g = tangent<C>(gate(2)), o = sigmoid<C>(gate(3));
    const Vector<C> now = f * load(c_before + at, count) + i * g, bounded = tangent<C>(now);
    store(i, gates + first, count);
    store(f, gates + first + units, count);
    store(g, gates + first + 2 * units, count);
    store(o, gates + first + 3 * units, count);
    store(now, c + at, count);
    store(bounded, squashed + at, count);
    store(o * bounded, h + at, count);
  });
}

// Errors of below + before, (rows, 4 units), and of c_before, (rows, units), from those of h and c.
template <class C>
void lstm_down(int threads, int64_t rows, int64_t units, const C* of_h, const C* of_c, const C* gates,
               const C* c_before, const C* squashed, C* of_gates, C* of_before) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t count) {
    const int64_t at = row * units + unit, first = 4 * row * units + unit;
    const auto gate = [&](int64_t number) { return load(gates + first + number * units, count); };
    const Vector<C> i = gate(0), f = gate(1), g = gate(2), o = gate(3);
    const Vector<C> e = load(of_h + at, count), t = load(squashed + at, count);
    const Vector<C> down = load(of_c + at, count) + e * o * (1 - t * t);
    store(down * g * i * (1 - i), of_gates + first, count);
    store(down * load(c_before + at, count) * f * (1 - f), of_gates + first + units, count);
    store(down * i * (1 - g * g), of_gates + first + 2 * units, count);
    store(e * t * o * (1 - o), of_gates + first + 3 * units, count);
    store(down * f, of_before + at, count);
  });
}

// r = sigmoid(below_r + before_r), z likewise, n = tanh(below_n + r before_n), h = n + z (h_before - n): shapes as above,
// with three gates.
template <class C>
void gru(int threads, int64_t rows, int64_t units, const C* below, int64_t stride, const C* before, const C* h_before,
         C* gates, C* h) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t count) {
    const int64_t at = row * units + unit, first = 3 * row * units + unit;
    const auto of = [&](int64_t number) { return load(below + row * stride + number * units + unit, count); };
    const auto own = [&](int64_t number) { return load(before + first + number * units, count); };
    const Vector<C> r = sigmoid<C>(of(0) + own(0)), z = sigmoid<C>(of(1) + own(1)), n = tangent<C>(of(2) + r * own(2));
    store(r, gates + first, count);
    store(z, gates + first + units, count);
    store(n, gates + first + 2 * units, count);
    store(n + z * (load(h_before + at, count) - n), h + at, count);
  });
}

// Errors of below and before, which differ in the last gate, and of h_before, from that of h.
template <class C>
void gru_down(int threads, int64_t rows, int64_t units, const C* of_h, const C* gates, const C* before,
              const C* h_before, C* of_below, C* of_before, C* of_h_before) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t count) {
    const int64_t at = row * units + unit, first = 3 * row * units + unit, last = first + 2 * units;
    const Vector<C> r = load(gates + first, count), z = load(gates + first + units, count), n = load(gates + last, count);
    const Vector<C> e = load(of_h + at, count), through = e * z, of_n = (e - through) * (1 - n * n);
    const Vector<C> of_r = of_n * load(before + last, count) * r * (1 - r);
    const Vector<C> of_z = e * (load(h_before + at, count) - n) * z * (1 - z);
    for (C* const to : {of_below, of_before}) {
      store(of_r, to + first, count);
      store(of_z, to + first + units, count);
    }
    store(of_n, of_below + last, count);
    store(of_n * r, of_before + last, count);
    store(through, of_h_before + at, count);
  });
}

}  // namespace
