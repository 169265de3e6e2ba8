// How weights move by a gradient: the update rules.

#pragma once

#include <cmath>
#include <type_traits>
#include <vector>

#include "groups.h"
#include "numbers.h"

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

// A part of the gradient: `count` neighbours for each of some outputs, which lie `across` apart; those of the weights
// lie `stride` apart. The gradient can be read up to the end of each output's last vector: what lies beyond `count` is
// not used.
template <class C>
struct Part {
  const C* gradient;
  int64_t outputs, across, stride, count;

  // Calls body(place, gradient, here) for every vector: `here` numbers from that place on.
  template <class Body>
  void each_vector(int64_t at, const Body& body) const {
    constexpr std::integral_constant<int64_t, Lanes<C>::count> lanes;
    for (int64_t o = 0; o < outputs; ++o, at += stride) {
      const C* from = gradient + o * across;
      int64_t i = 0;
      for (; i + lanes <= count; i += lanes) body(at + i, load(from + i), lanes);
      if (i < count) body(at + i, load(from + i), count - i);
    }
  }
};

// Moves the weights of a part that begins at a place.
template <class C, class W>
inline void move(const Mover<C, W> by, int64_t at, const Part<C> part) {
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
    part.each_vector(at, [&](int64_t place, const Vector<C>& g, auto here) {
      put(place, by.keep * load(weight + place, here) - by.lr * g, here);
    });
  } else if (by.kind == kMomentum) {
    part.each_vector(at, [&](int64_t place, const Vector<C>& g, auto here) {
      const Vector<C> mean = by.beta1 * load(first + place, here) + g;
      store(mean, first + place, here);
      put(place, by.keep * load(weight + place, here) - by.lr * mean, here);
    });
  } else {
    part.each_vector(at, [&](int64_t place, const Vector<C>& g, auto here) {
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

  void operator()(int64_t group, int64_t at, const Part<C>& part) const {
    for (int64_t k = 0; k < count; ++k) move(movers[k][group], at, part);
  }

 private:
  int64_t count = 0;
};

}  // namespace
