// Update: weights move by their gradient delta^T x, tile by tile, as soon as a tile of it is known. Weights that receive
// the same factors move together: their gradient is computed once.

#pragma once

#include <cmath>
#include <type_traits>

#include "groups.h"
#include "numbers.h"
#include "shares.h"

namespace {

enum Kind : int64_t { kDescent = 0, kMomentum = 1, kAdam = 2 };

struct Rule {
  int64_t kind;
  double beta1, beta2, epsilon;  // beta1 is the momentum of kMomentum
};

// A weight that moves, and the rule's state beside it. Without a weight nothing moves.
template <class C, class W>
struct Target {
  W* weight;
  C *first, *second;
  int64_t* steps;  // of each slot
  double lr, decay;
  uint32_t seed;
};

// One target as its rule moves it in one slot. Passed by value: the compiler then knows that no store changes it, and
// keeps it in registers.
template <class C, class W>
struct Mover {
  Target<C, W> target;
  int64_t kind;
  C keep, lr, beta1, beta2, epsilon;
  C size, scale;  // of Adam: rate and root of the second moment, corrected for the start

  // `step` counts the slot's updates, the present one included.
  Mover(const Rule& rule, const Target<C, W>& target, double step)
      : target(target), kind(rule.kind), keep(C(1.0 - target.lr * target.decay)), lr(C(target.lr)),
        beta1(C(rule.beta1)), beta2(C(rule.beta2)), epsilon(C(rule.epsilon)),
        size(C(target.lr / (1.0 - std::pow(rule.beta1, step)))),
        scale(C(1.0 / std::sqrt(1.0 - std::pow(rule.beta2, step)))) {}
};

// A tile of the gradient: `count` neighbours for each of Outputs outputs, one after the other; those of the weights lie
// `stride` apart.
template <int Outputs, class C, class Count>
struct Tile {
  const C* gradient;
  int64_t stride;
  Count count;

  // Calls body(place, gradient, here) for every vector: `here` numbers from that place on.
  template <class Body>
  void each_vector(int64_t at, const Body& body) const {
    constexpr std::integral_constant<int64_t, Lanes<C>::count> lanes;
    for (int o = 0; o < Outputs; ++o, at += stride) {
      const C* from = gradient + o * count;
      int64_t i = 0;
      for (; i + lanes <= count; i += lanes) body(at + i, load(from + i), lanes);
      if (i < count) body(at + i, load(from + i, count - i), count - i);
    }
  }
};

// Moves the weights of a tile that begins at a place.
template <class C, class W, class Tile>
inline void move(const Mover<C, W> by, int64_t at, const Tile& tile) {
  W* const weight = by.target.weight;
  C *const first = by.target.first, *const second = by.target.second;
  const auto put = [&](int64_t place, const Vector<C>& next, auto here) {
    if constexpr (std::is_same_v<C, W>) {
      store(next, weight + place, here);
    } else {
      round_stochastically(next, weight + place, here, by.target.seed, uint32_t(place));
    }
  };
  if (by.kind == kDescent) {
    tile.each_vector(at, [&](int64_t place, const Vector<C>& g, auto here) {
      put(place, by.keep * load(weight + place, here) - by.lr * g, here);
    });
  } else if (by.kind == kMomentum) {
    tile.each_vector(at, [&](int64_t place, const Vector<C>& g, auto here) {
      const Vector<C> mean = by.beta1 * load(first + place, here) + g;
      store(mean, first + place, here);
      put(place, by.keep * load(weight + place, here) - by.lr * mean, here);
    });
  } else {
    tile.each_vector(at, [&](int64_t place, const Vector<C>& g, auto here) {
      const Vector<C> before = load(first + place, here), mean = before + (C(1) - by.beta1) * (g - before);
      const Vector<C> square = by.beta2 * load(second + place, here) + (C(1) - by.beta2) * g * g;
      store(mean, first + place, here);
      store(square, second + place, here);
      const Vector<C> size = by.size / (root(square) * by.scale + by.epsilon);
      put(place, by.keep * load(weight + place, here) - size * mean, here);
    });
  }
}

// The targets that move together, one Mover for each group.
template <class C, class W>
struct Moves {
  std::vector<Mover<C, W>> movers[2];

  Moves(const Rule& rule, const Target<C, W>& first, const Target<C, W>& second, const Groups& groups) {
    for (const auto& target : {first, second}) {
      if (!target.weight) continue;
      auto& of_groups = movers[count++];
      of_groups.reserve(groups.count);
      for (int64_t group = 0; group < groups.count; ++group) {
        const double step = target.steps ? double(++target.steps[groups.slot(group)]) : 1.0;
        of_groups.emplace_back(rule, target, step);
      }
    }
  }

  const W* weight() const { return movers[0][0].target.weight; }

  template <class Tile>
  void operator()(int64_t group, int64_t at, const Tile& tile) const {
    for (int64_t k = 0; k < count; ++k) move(movers[k][group], at, tile);
  }

 private:
  int64_t count = 0;
};

// Outputs of a tile of an area with so many rows. With few it is the way of the weights from memory that takes time: one
// output after the other is one long stretch of it. With many it is the products, which need tall tiles.
constexpr int64_t outputs_of_tile(int64_t rows) { return rows <= 4 ? 1 : rows <= 12 ? 2 : kRows; }

// Vectors beside each other in a tile: as many as the registers hold.
constexpr int vectors_of_tile(int outputs) { return outputs == 1 ? 16 : outputs == 2 ? 8 : kVectors; }

// gradient[o][0 .. V vectors) = sum over rows of delta[row][o] x[row][0 .. V vectors) for O outputs.
template <int O, int V, class C, class X>
inline void gradient_tile(const Groups& groups, int64_t group, int64_t inputs, int64_t outputs, const X* delta,
                          const X* x, C* gradient) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[O][V] = {};
  for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
    const int64_t row = groups.row(position);
    const X *from = x + row * inputs, *error = delta + row * outputs;
    decltype(load(from)) value[V];
    for (int v = 0; v < V; ++v) value[v] = load(from + v * lanes);
    for (int o = 0; o < O; ++o) {
      const auto factor = everywhere(error[o]);
      for (int v = 0; v < V; ++v) multiply_add(sums[o][v], factor, value[v]);
    }
  }
  std::memcpy(gradient, sums, sizeof sums);
}

// Moves the weights of O outputs, from input i on, in tiles of V vectors and then of fewer.
template <int O, int V, class C, class X, class W>
inline void update_tiles(const Moves<C, W>& moves, const Groups& groups, int64_t group, int64_t base, int64_t i,
                         int64_t inputs, int64_t outputs, const X* delta, const X* x) {
  constexpr int64_t lanes = Lanes<C>::count;
  constexpr std::integral_constant<int64_t, V * lanes> width;
  alignas(64) C gradient[O * width];
  for (; i + width <= inputs; i += width) {
    const W* next = moves.weight() + base + i + width;
    for (int o = 0; o < O; ++o) {  // the next tile's weights arrive while this one's gradient is summed
      for (int64_t line = 0; line < width; line += lanes) __builtin_prefetch(next + o * inputs + line, 1);
    }
    gradient_tile<O, V>(groups, group, inputs, outputs, delta, x + i, gradient);
    moves(group, base + i, Tile<O, C, decltype(width)>{gradient, inputs, width});
  }
  if constexpr (V > 1) {
    update_tiles<O, V / 2>(moves, groups, group, base, i, inputs, outputs, delta, x);
  } else if (i < inputs) {
    const int64_t rest = inputs - i;
    std::fill(gradient, gradient + O * rest, C(0));
    for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
      const X *from = x + groups.row(position) * inputs + i, *error = delta + groups.row(position) * outputs;
      for (int o = 0; o < O; ++o) {
        for (int64_t k = 0; k < rest; ++k) gradient[o * rest + k] += product(error[o], from[k]);
      }
    }
    moves(group, base + i, Tile<O, C, int64_t>{gradient, inputs, rest});
  }
}

template <class C, class X, class W>
void update_all(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const X* delta, const X* x,
                const Moves<C, W>& moves) {
  const auto shares = cut(groups, outputs, inputs, outputs_of_tile, threads);
  each(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const int64_t weight = groups.slot(item.group) * outputs * inputs, most = outputs_of_tile(groups.rows(item.group));
    for (int64_t o = item.begin; o < item.end; o += most) {
      as_constant<kRows>(std::min(most, item.end - o), [&](auto height) {
        constexpr int vectors = vectors_of_tile(height);
        update_tiles<height, vectors>(moves, groups, item.group, weight + o * inputs, 0, inputs, outputs, delta + o, x);
      });
    }
  });
}

template <class C, class W>
void update(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* delta, const C* x,
            const Moves<C, W>& moves) {
  update_all(threads, groups, inputs, outputs, delta, x, moves);
}

// Biases: as weights on an input that is always one.
template <class C>
void update_bias(const Groups& groups, int64_t outputs, const C* delta, const Moves<C, C>& moves) {
  std::vector<C> gradient(outputs);
  for (int64_t group = 0; group < groups.count; ++group) {
    std::fill(gradient.begin(), gradient.end(), C(0));
    for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
      const C* row = delta + groups.row(position) * outputs;
      for (int64_t o = 0; o < outputs; ++o) gradient[o] += row[o];
    }
    moves(group, groups.slot(group) * outputs, Tile<1, C, int64_t>{gradient.data(), outputs, outputs});
  }
}

}  // namespace
