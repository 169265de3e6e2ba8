// Cells of recurrent layers: the next state from the outputs of both maps, and how errors go back through it, each in
// one pass where PyTorch makes ten over a few thousand numbers.

#pragma once

#include <cstdint>

#include "exponential.h"
#include "numbers.h"
#include "threads.h"

namespace {

constexpr int64_t kOfCell = 64;  // multiply-adds that a unit takes, about

// Calls body(row, unit, left) for vectors of the units of all rows; `left` are the units of the row from this one on.
template <class C, class Body>
inline void each_units(int threads, int64_t rows, int64_t units, const Body& body) {
  constexpr int64_t lanes = Lanes<C>::count;
  each_row(threads, rows, units * kOfCell, [&](int64_t row) {
    for (int64_t unit = 0; unit < units; unit += lanes) body(row, unit, units - unit);
  });
}

// With i, f, g and o side by side in below + before: c = sigmoid(f) c_before + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c).
// Gates are what these functions make of them, squashed is tanh(c). Below (rows, 4 units), whose rows lie `stride` apart,
// before and gates (rows, 4 units), all others (rows, units).
template <class C>
void lstm(int threads, int64_t rows, int64_t units, const C* below, int64_t stride, const C* before, const C* c_before,
          C* gates, C* c, C* squashed, C* h) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t left) {
    const int64_t at = row * units + unit, first = 4 * row * units + unit;
    const auto gate = [&](int64_t number) {
      return load(below + row * stride + number * units + unit, left) + load(before + first + number * units, left);
    };
    const Vector<C> i = sigmoid<C>(gate(0)), f = sigmoid<C>(gate(1)), o = sigmoid<C>(gate(3));
    const Vector<C> g = hyperbolic_tangent<C>(gate(2));
    const Vector<C> now = f * load(c_before + at, left) + i * g, bounded = hyperbolic_tangent<C>(now);
    store(i, gates + first, left);
    store(f, gates + first + units, left);
    store(g, gates + first + 2 * units, left);
    store(o, gates + first + 3 * units, left);
    store(now, c + at, left);
    store(bounded, squashed + at, left);
    store(o * bounded, h + at, left);
  });
}

// Errors of below + before, (rows, 4 units), and of c_before, (rows, units), from those of h and c.
template <class C>
void lstm_down(int threads, int64_t rows, int64_t units, const C* of_h, const C* of_c, const C* gates,
               const C* c_before, const C* squashed, C* of_gates, C* of_before) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t left) {
    const int64_t at = row * units + unit, first = 4 * row * units + unit;
    const auto gate = [&](int64_t number) { return load(gates + first + number * units, left); };
    const Vector<C> i = gate(0), f = gate(1), g = gate(2), o = gate(3);
    const Vector<C> e = load(of_h + at, left), t = load(squashed + at, left);
    const Vector<C> down = load(of_c + at, left) + e * o * (1 - t * t);
    store(down * g * i * (1 - i), of_gates + first, left);
    store(down * load(c_before + at, left) * f * (1 - f), of_gates + first + units, left);
    store(down * i * (1 - g * g), of_gates + first + 2 * units, left);
    store(e * t * o * (1 - o), of_gates + first + 3 * units, left);
    store(down * f, of_before + at, left);
  });
}

// r = sigmoid(below_r + before_r), z likewise, n = tanh(below_n + r before_n), h = n + z (h_before - n). Gates are r, z and
// n side by side; shapes as above, with three gates.
template <class C>
void gru(int threads, int64_t rows, int64_t units, const C* below, int64_t stride, const C* before, const C* h_before,
         C* gates, C* h) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t left) {
    const int64_t at = row * units + unit, first = 3 * row * units + unit;
    const auto of = [&](int64_t number) { return load(below + row * stride + number * units + unit, left); };
    const auto own = [&](int64_t number) { return load(before + first + number * units, left); };
    const Vector<C> r = sigmoid<C>(of(0) + own(0)), z = sigmoid<C>(of(1) + own(1));
    const Vector<C> n = hyperbolic_tangent<C>(of(2) + r * own(2));
    store(r, gates + first, left);
    store(z, gates + first + units, left);
    store(n, gates + first + 2 * units, left);
    store(n + z * (load(h_before + at, left) - n), h + at, left);
  });
}

// Errors of below and before, which differ in the last gate, and of h_before, from that of h.
template <class C>
void gru_down(int threads, int64_t rows, int64_t units, const C* of_h, const C* gates, const C* before,
              const C* h_before, C* of_below, C* of_before, C* of_h_before) {
  each_units<C>(threads, rows, units, [&](int64_t row, int64_t unit, int64_t left) {
    const int64_t at = row * units + unit, first = 3 * row * units + unit, last = first + 2 * units;
    const Vector<C> r = load(gates + first, left), z = load(gates + first + units, left);
    const Vector<C> n = load(gates + last, left);
    const Vector<C> e = load(of_h + at, left), through = e * z, of_n = (e - through) * (1 - n * n);
    const Vector<C> of_r = of_n * load(before + last, left) * r * (1 - r);
    const Vector<C> of_z = e * (load(h_before + at, left) - n) * z * (1 - z);
    for (C* const to : {of_below, of_before}) {
      store(of_r, to + first, left);
      store(of_z, to + first + units, left);
    }
    store(of_n, of_below + last, left);
    store(of_n * r, of_before + last, left);
    store(through, of_h_before + at, left);
  });
}

}  // namespace
