// The grouped operations over areas, for one machine's processor: forward, error down, update in place.
//
// A batch of N rows is grouped by area: group k owns the rows order[bounds[k]] .. order[bounds[k + 1] - 1] and the
// weights of slot slots[present[k]]. Rows are read where they lie; nothing is sorted or copied.
//
//   x      (N, I)      input          weight  (S, O, I)   one map per slot, storage type W
//   delta  (N, O)      error at z     bias    (S, O)
//   out    (N, O)      output         below   (N, I)      error at x
//
// Every operation is one parallel region over (group, tile): tiles cut the outputs (forward, update) or the inputs
// (error), so a hot area is shared by all threads. Each result is summed by one thread in one order, so that results
// do not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __SANITIZE_THREAD__
#include <atomic>
#include <thread>
#endif

namespace {

constexpr int64_t kRows = 6;     // rows of a register tile
constexpr int64_t kDotRows = 8;  // rows and outputs of a register tile of dot products: 8 rows stay in the first-level
constexpr int64_t kOutputs = 2;  // cache while the weights stream by, each read once
constexpr int64_t kVectors = 4;  // vectors of a register tile along the inputs
constexpr int64_t kChunk = 512;  // longest stretch of inputs whose gradient is summed over groups in the first-level cache
constexpr int64_t kPack = 16;    // rows of an area from which on transposing its weight pays
constexpr int64_t kSmall = 1 << 15;  // multiply-adds below which one thread is faster than waking the others

// ---- numbers -------------------------------------------------------------------------------------------------------

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

inline float sum(const Vector<float>& v) {
  const auto eight = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                     __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

inline double sum(const Vector<double>& v) {
  const auto four = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// Writes a new weight back to its storage. For bfloat16 it is rounded up with a probability equal to the lost share,
// so that small updates survive on average; the random bits are a hash of the seed and the weight's index.
template <class C>
inline void store(C* to, C value, uint32_t, uint32_t) {
  *to = value;
}

inline void store(BFloat16* to, float value, uint32_t seed, uint32_t index) {
  uint32_t hash = (index + seed) * 0x9E3779B1u;
  hash = (hash ^ (hash >> 15)) * 0x85EBCA77u;
  hash ^= hash >> 16;
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const bool finite = (bits & 0x7F800000u) != 0x7F800000u;
  to->bits = static_cast<uint16_t>((bits + (finite ? (hash & 0xFFFFu) : 0u)) >> 16);
}

// ---- work ----------------------------------------------------------------------------------------------------------

struct Groups {
  int64_t count;
  const int64_t* present;  // (count) areas
  const int64_t* bounds;   // (count + 1)
  const int64_t* order;    // (N), or null: rows lie in order
  const int64_t* slots;    // (areas), or null: area g has slot g

  int64_t slot(int64_t group) const { return slots ? slots[present[group]] : present[group]; }
  int64_t rows(int64_t group) const { return bounds[group + 1] - bounds[group]; }
  int64_t rows() const { return bounds[count] - bounds[0]; }
  int64_t row(int64_t position) const { return order ? order[position] : position; }
};

struct Item {
  int64_t group, begin, end;
};

// Cuts every group's `extent` into tiles of about equal work, multiples of `step(rows)`.
template <class Step>
std::vector<Item> cut(const Groups& groups, int64_t extent, int64_t other, const Step& step, int threads) {
  constexpr int64_t kTouch = 4;  // reading a weight once costs about as much as multiplying it by this many rows
  int64_t work = 0;
  for (int64_t group = 0; group < groups.count; ++group) work += (groups.rows(group) + kTouch) * extent * other;
  const int64_t share = std::max<int64_t>(work / (threads * 8), 1);
  std::vector<Item> items;
  for (int64_t group = 0; group < groups.count; ++group) {
    const int64_t wanted = share / ((groups.rows(group) + kTouch) * other) + 1;
    const int64_t unit = step(groups.rows(group)), size = (wanted + unit - 1) / unit * unit;
    for (int64_t begin = 0; begin < extent; begin += size) {
      items.push_back({group, begin, std::min(begin + size, extent)});
    }
  }
  return items;
}

// Does all items, whoever is free the next; `work` is the number of multiply-adds in all.
template <class Item, class Body>
void each(const std::vector<Item>& items, int64_t work, int threads, const Body& body) {
  const int64_t count = static_cast<int64_t>(items.size());
#ifdef __SANITIZE_THREAD__  // which cannot see how OpenMP's threads wait for each other
  std::atomic<int64_t> next{0};
  std::vector<std::thread> team;
  for (int thread = 0; thread < threads; ++thread) {
    team.emplace_back([&] {
      for (int64_t index; (index = next++) < count;) body(items[index]);
    });
  }
  for (auto& thread : team) thread.join();
#else
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (work > kSmall)
  for (int64_t index = 0; index < count; ++index) body(items[index]);
#endif
}

// ---- forward: out = weight x + bias --------------------------------------------------------------------------------

// out[r][o] = x[r] . weight[o] for R rows and O outputs.
template <int R, int O, class C, class W>
inline void dot_tile(const C* const* x, const W* weight, int64_t inputs, C out[kDotRows][kOutputs]) {
  Vector<C> sums[R][O] = {};
  int64_t i = 0;
  for (; i + Lanes<C>::count <= inputs; i += Lanes<C>::count) {
    Vector<C> w[O];
    for (int o = 0; o < O; ++o) {
      w[o] = load(weight + o * inputs + i);
      __builtin_prefetch(weight + (o + O) * inputs + i, 0, 2);  // the next tile's weights
    }
    for (int r = 0; r < R; ++r) {
      const Vector<C> value = load(x[r] + i);
      for (int o = 0; o < O; ++o) sums[r][o] += value * w[o];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int o = 0; o < O; ++o) {
      C rest = sum(sums[r][o]);
      for (int64_t j = i; j < inputs; ++j) rest += x[r][j] * widen(weight[o * inputs + j]);
      out[r][o] = rest;
    }
  }
}

template <int O, class C, class W>
inline void dot_rows(int64_t rows, const C* const* x, const W* weight, int64_t inputs, C out[kDotRows][kOutputs]) {
  switch (rows) {
    case 1: return dot_tile<1, O>(x, weight, inputs, out);
    case 2: return dot_tile<2, O>(x, weight, inputs, out);
    case 3: return dot_tile<3, O>(x, weight, inputs, out);
    case 4: return dot_tile<4, O>(x, weight, inputs, out);
    case 5: return dot_tile<5, O>(x, weight, inputs, out);
    case 6: return dot_tile<6, O>(x, weight, inputs, out);
    case 7: return dot_tile<7, O>(x, weight, inputs, out);
    default: return dot_tile<8, O>(x, weight, inputs, out);
  }
}

// Few rows: every output is a dot product, which reads each weight once and needs no copy of it.
template <class C, class W>
void forward_dots(const Groups& groups, int64_t group, int64_t begin, int64_t end, int64_t inputs, int64_t outputs,
                  const C* x, const W* weight, const C* bias, C* out) {
  const int64_t first = groups.bounds[group], rows = groups.rows(group), tiles = (rows + kDotRows - 1) / kDotRows;
  for (int64_t o = begin; o < end;) {
    const int64_t width = end - o >= kOutputs ? kOutputs : 1;
    for (int64_t tile = 0; tile < tiles; ++tile) {  // tiles of equal height: 9 rows are 4 + 5, not 8 + 1
      const int64_t start = rows * tile / tiles, height = rows * (tile + 1) / tiles - start;
      const C* from[kDotRows];
      C result[kDotRows][kOutputs];
      for (int64_t r = 0; r < height; ++r) from[r] = x + groups.row(first + start + r) * inputs;
      if (width == kOutputs) {
        dot_rows<kOutputs>(height, from, weight + o * inputs, inputs, result);
      } else {
        dot_rows<1>(height, from, weight + o * inputs, inputs, result);
      }
      for (int64_t r = 0; r < height; ++r) {
        C* to = out + groups.row(first + start + r) * outputs + o;
        for (int64_t k = 0; k < width; ++k) to[k] = result[r][k] + (bias ? bias[o + k] : C(0));
      }
    }
    o += width;
  }
}

inline void interleave(Vector<float>& a, Vector<float>& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  b = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  a = low;
}

inline void interleave(Vector<double>& a, Vector<double>& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  b = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  a = low;
}

// packed[i][o] = weight[o][i] for one vector of outputs and `depth` inputs; rows of `packed` are `stride` apart.
template <class C, class W>
inline void pack(const W* weight, int64_t inputs, int64_t depth, C* packed, int64_t stride) {
  constexpr int64_t lanes = Lanes<C>::count;
  int64_t i = 0;
  for (; i + lanes <= depth; i += lanes) {
    Vector<C> block[lanes], next[lanes];
    for (int64_t o = 0; o < lanes; ++o) {
      block[o] = load(weight + o * inputs + i);
      __builtin_prefetch(weight + o * inputs + i + depth, 0, 2);  // the next block of inputs
    }
    for (int64_t stage = 1; stage < lanes; stage *= 2) {  // log2(lanes) interleavings transpose a square
      for (int64_t o = 0; o < lanes / 2; ++o) {
        next[2 * o] = block[o];
        next[2 * o + 1] = block[o + lanes / 2];
        interleave(next[2 * o], next[2 * o + 1]);
      }
      for (int64_t o = 0; o < lanes; ++o) block[o] = next[o];
    }
    for (int64_t k = 0; k < lanes; ++k) std::memcpy(packed + (i + k) * stride, &block[k], sizeof block[k]);
  }
  for (; i < depth; ++i) {
    for (int64_t o = 0; o < lanes; ++o) packed[i * stride + o] = widen(weight[o * inputs + i]);
  }
}

// to[r][0 .. V vectors) += sum over i of x[r][i] packed[i][0 .. V vectors)
template <int R, int V, class C>
inline void packed_tile(const C* const* x, const C* packed, int64_t depth, C* const* to) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sums[r][v] = load(to[r] + v * lanes);
  }
  for (int64_t i = 0; i < depth; ++i) {
    Vector<C> w[V];
    for (int v = 0; v < V; ++v) w[v] = load(packed + (i * V + v) * lanes);
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) sums[r][v] += x[r][i] * w[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) std::memcpy(to[r] + v * lanes, &sums[r][v], sizeof(Vector<C>));
  }
}

// Many rows: blocks of the weight are transposed into the first-level cache and then used by all rows.
template <int V, class C, class W>
void forward_packed(const Groups& groups, int64_t group, int64_t o, int64_t inputs, int64_t outputs, const C* x,
                    const W* weight, const C* bias, C* out) {
  constexpr int64_t lanes = Lanes<C>::count, depth = 128;
  alignas(64) C packed[depth * V * lanes];
  const int64_t first = groups.bounds[group], rows = groups.rows(group), tiles = (rows + kRows - 1) / kRows;
  for (int64_t r = 0; r < rows; ++r) {
    C* to = out + groups.row(first + r) * outputs + o;
    for (int64_t k = 0; k < V * lanes; ++k) to[k] = bias ? bias[o + k] : C(0);
  }
  for (int64_t i = 0; i < inputs; i += depth) {
    const int64_t here = std::min(depth, inputs - i);
    for (int v = 0; v < V; ++v)
      pack(weight + (o + v * lanes) * inputs + i, inputs, here, packed + v * lanes, V * lanes);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t start = rows * tile / tiles, height = rows * (tile + 1) / tiles - start;
      const C* from[kRows];
      C* to[kRows];
      for (int64_t r = 0; r < height; ++r) {
        const int64_t row = groups.row(first + start + r);
        from[r] = x + row * inputs + i;
        to[r] = out + row * outputs + o;
      }
      switch (height) {
        case 1: packed_tile<1, V>(from, packed, here, to); break;
        case 2: packed_tile<2, V>(from, packed, here, to); break;
        case 3: packed_tile<3, V>(from, packed, here, to); break;
        case 4: packed_tile<4, V>(from, packed, here, to); break;
        case 5: packed_tile<5, V>(from, packed, here, to); break;
        default: packed_tile<6, V>(from, packed, here, to); break;
      }
    }
  }
}

template <class C, class W>
void forward(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* x, const W* weights,
             const C* biases, C* out) {
  constexpr int64_t lanes = Lanes<C>::count, block = kVectors * lanes;
  const auto step = [](int64_t rows) { return rows < kPack ? kOutputs : block; };
  const auto items = cut(groups, outputs, inputs, step, threads);
  each(items, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const int64_t slot = groups.slot(item.group);
    const W* weight = weights + slot * outputs * inputs;
    const C* bias = biases ? biases + slot * outputs : nullptr;
    int64_t o = item.begin;
    if (groups.rows(item.group) >= kPack) {
      for (; o + block <= item.end; o += block) {
        forward_packed<kVectors>(groups, item.group, o, inputs, outputs, x, weight, bias, out);
      }
      for (; o + lanes <= item.end; o += lanes) {
        forward_packed<1>(groups, item.group, o, inputs, outputs, x, weight, bias, out);
      }
    }
    forward_dots(groups, item.group, o, item.end, inputs, outputs, x, weight, bias, out);
  });
}

// ---- error down: below += delta weight -----------------------------------------------------------------------------

// below[r][0 .. V vectors) += sum over o of delta[r][o] weight[o][0 .. V vectors)
template <int R, int V, class C, class W>
inline void error_tile(const C* const* delta, const W* weight, int64_t inputs, int64_t outputs, C* const* below) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sums[r][v] = load(below[r] + v * lanes);
  }
  for (int64_t o = 0; o < outputs; ++o) {
    Vector<C> w[V];
    for (int v = 0; v < V; ++v) {
      w[v] = load(weight + o * inputs + v * lanes);
      __builtin_prefetch(weight + (o + 8) * inputs + v * lanes);
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) sums[r][v] += delta[r][o] * w[v];
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) std::memcpy(below[r] + v * lanes, &sums[r][v], sizeof(Vector<C>));
  }
}

template <int V, class C, class W>
inline void error_rows(int64_t rows, const C* const* delta, const W* weight, int64_t inputs, int64_t outputs,
                       C* const* below) {
  switch (rows) {
    case 1: return error_tile<1, V>(delta, weight, inputs, outputs, below);
    case 2: return error_tile<2, V>(delta, weight, inputs, outputs, below);
    case 3: return error_tile<3, V>(delta, weight, inputs, outputs, below);
    case 4: return error_tile<4, V>(delta, weight, inputs, outputs, below);
    case 5: return error_tile<5, V>(delta, weight, inputs, outputs, below);
    default: return error_tile<6, V>(delta, weight, inputs, outputs, below);
  }
}

template <class C, class W>
void error(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* deltas, const W* weights,
           C* belows) {
  constexpr int64_t lanes = Lanes<C>::count;
  const auto items = cut(groups, inputs, outputs, [](int64_t) { return kVectors * lanes; }, threads);
  each(items, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const int64_t first = groups.bounds[item.group], rows = groups.rows(item.group);
    const int64_t tiles = (rows + kRows - 1) / kRows;
    const W* weight = weights + groups.slot(item.group) * outputs * inputs;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = rows * tile / tiles, height = rows * (tile + 1) / tiles - begin;
      const C* delta[kRows];
      C* below[kRows];
      for (int64_t r = 0; r < height; ++r) {
        const int64_t row = groups.row(first + begin + r);
        delta[r] = deltas + row * outputs;
        below[r] = belows + row * inputs + item.begin;
      }
      int64_t i = item.begin;
      const auto advance = [&](int64_t by) {
        i += by;
        for (int64_t r = 0; r < height; ++r) below[r] += by;
      };
      for (; i + kVectors * lanes <= item.end; advance(kVectors * lanes)) {
        error_rows<kVectors>(height, delta, weight + i, inputs, outputs, below);
      }
      for (; i + lanes <= item.end; advance(lanes)) error_rows<1>(height, delta, weight + i, inputs, outputs, below);
      for (; i < item.end; advance(1)) {
        for (int64_t r = 0; r < height; ++r) {
          C rest = *below[r];
          for (int64_t o = 0; o < outputs; ++o) rest += delta[r][o] * widen(weight[o * inputs + i]);
          *below[r] = rest;
        }
      }
    }
  });
}

// ---- update: weights move by their gradient delta^T x, tile by tile, as soon as a tile of it is known --------------
//
// What receives the same factors moves together. The gradient of `own`, a map per slot, is summed over the rows of each
// group; that of `whole`, maps of all rows, is the sum of those. So it is computed once.

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

// Moves `count` neighbouring weights from place `at` on; step counts this slot's updates, the present one included.
template <class C, class W>
inline void move(const Rule& rule, const Target<C, W>& target, int64_t at, const C* gradient, int64_t count,
                 double step) {
  const C keep = C(1.0 - target.lr * target.decay), lr = C(target.lr), b1 = C(rule.beta1), b2 = C(rule.beta2);
  W* weight = target.weight + at;
  C* first = target.first ? target.first + at : nullptr;
  C* second = target.second ? target.second + at : nullptr;
  const uint32_t seed = target.seed, index = uint32_t(at);
  if (rule.kind == kDescent) {
    for (int64_t i = 0; i < count; ++i) {
      store(weight + i, keep * widen(weight[i]) - lr * gradient[i], seed, index + uint32_t(i));
    }
  } else if (rule.kind == kMomentum) {
    for (int64_t i = 0; i < count; ++i) {
      first[i] = b1 * first[i] + gradient[i];
      store(weight + i, keep * widen(weight[i]) - lr * first[i], seed, index + uint32_t(i));
    }
  } else {
    const C size = C(target.lr / (1.0 - std::pow(rule.beta1, step))), epsilon = C(rule.epsilon);
    const C scale = C(1.0 / std::sqrt(1.0 - std::pow(rule.beta2, step)));
    for (int64_t i = 0; i < count; ++i) {
      const C g = gradient[i];
      first[i] += (C(1) - b1) * (g - first[i]);
      second[i] = b2 * second[i] + (C(1) - b2) * g * g;
      const C change = size * first[i] / (std::sqrt(second[i]) * scale + epsilon);
      store(weight + i, keep * widen(weight[i]) - change, seed, index + uint32_t(i));
    }
  }
}

// Everything that one update moves, and the number of each one's steps with the present one.
template <class C, class W>
struct Moves {
  static constexpr int64_t most = 2;
  Rule rule;
  Target<C, W> own, whole[most];
  std::vector<double> own_step;
  double whole_step[most];

  Moves(const Rule& rule, const Target<C, W>& own, const Target<C, W>& a, const Target<C, W>& b, const Groups& groups)
      : rule(rule), own(own), whole{a, b}, own_step(groups.count, 0.0), whole_step{} {
    if (own.weight && own.steps) {
      for (int64_t group = 0; group < groups.count; ++group) own_step[group] = double(++own.steps[groups.slot(group)]);
    }
    for (int64_t k = 0; k < most; ++k) {
      if (whole[k].weight && whole[k].steps && groups.count) whole_step[k] = double(++*whole[k].steps);
    }
  }

  bool any_whole() const { return whole[0].weight || whole[1].weight; }

  void move_own(int64_t group, int64_t at, const C* gradient, int64_t count) const {
    if (own.weight) move(rule, own, at, gradient, count, own_step[group]);
  }

  void move_whole(int64_t at, const C* gradient, int64_t count) const {
    for (int64_t k = 0; k < most; ++k) {
      if (whole[k].weight) move(rule, whole[k], at, gradient, count, whole_step[k]);
    }
  }
};

// gradient[o][0 .. V vectors) = sum over rows of delta[row][o] x[row][0 .. V vectors) for O outputs.
template <int O, int V, class C>
inline void gradient_tile(const Groups& groups, int64_t begin, int64_t end, int64_t inputs, int64_t outputs,
                          const C* delta, const C* x, C* gradient, int64_t stride) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[O][V] = {};
  for (int64_t position = begin; position < end; ++position) {
    const int64_t row = groups.row(position);
    const C *from = x + row * inputs, *error = delta + row * outputs;
    Vector<C> value[V];
    for (int v = 0; v < V; ++v) value[v] = load(from + v * lanes);
    for (int o = 0; o < O; ++o) {
      for (int v = 0; v < V; ++v) sums[o][v] += error[o] * value[v];
    }
  }
  for (int o = 0; o < O; ++o) {
    for (int v = 0; v < V; ++v) std::memcpy(gradient + o * stride + v * lanes, &sums[o][v], sizeof(Vector<C>));
  }
}

// Moves `own` of one group: outputs o .. o + O - 1, inputs begin .. end - 1. Adds its gradient to total (O, kChunk),
// if there is one.
template <int O, class C, class W>
inline void update_outputs(const Moves<C, W>& moves, const Groups& groups, int64_t group, int64_t o, int64_t begin,
                           int64_t end, int64_t inputs, int64_t outputs, const C* delta, const C* x, C* total) {
  constexpr int64_t lanes = Lanes<C>::count, block = kVectors * lanes;
  const int64_t first = groups.bounds[group], last = groups.bounds[group + 1];
  const int64_t base = (groups.slot(group) * outputs + o) * inputs;
  for (int64_t i = begin; i < end;) {
    C gradient[O][block];
    if (moves.own.weight) {
      for (int k = 0; k < O; ++k) {  // the next block's weights arrive while this one's gradient is summed
        for (int64_t line = 0; line < block; line += lanes)
          __builtin_prefetch(moves.own.weight + base + k * inputs + i + block + line, 1);
      }
    }
    const int64_t width = end - i >= block ? block : end - i >= lanes ? lanes : 1;
    if (width == block) {
      gradient_tile<O, kVectors>(groups, first, last, inputs, outputs, delta + o, x + i, gradient[0], block);
    } else if (width == lanes) {
      gradient_tile<O, 1>(groups, first, last, inputs, outputs, delta + o, x + i, gradient[0], block);
    } else {
      for (int k = 0; k < O; ++k) {
        C rest = 0;
        for (int64_t position = first; position < last; ++position) {
          const int64_t row = groups.row(position);
          rest += delta[row * outputs + o + k] * x[row * inputs + i];
        }
        gradient[k][0] = rest;
      }
    }
    for (int k = 0; k < O; ++k) {
      moves.move_own(group, base + k * inputs + i, gradient[k], width);
      if (total) {
        for (int64_t j = 0; j < width; ++j) total[k * kChunk + i - begin + j] += gradient[k][j];
      }
    }
    i += width;
  }
}

struct Block {
  int64_t o, begin, end;  // outputs o .. o + kRows - 1 where there are so many, inputs begin .. end - 1
};

// Cuts a map into blocks of about equal length: at most kChunk, and enough of them for the threads.
inline std::vector<Block> blocks(int64_t inputs, int64_t outputs, int64_t least, int threads) {
  const int64_t rows = (outputs + kRows - 1) / kRows;
  const int64_t wanted = std::max(threads * 8 / rows, (inputs - 1) / kChunk) + 1;
  const int64_t even = (inputs + wanted - 1) / wanted;
  const int64_t size = std::min(kChunk, (even + least - 1) / least * least);
  std::vector<Block> found;
  for (int64_t o = 0; o < outputs; o += kRows) {
    for (int64_t begin = 0; begin < inputs; begin += size) found.push_back({o, begin, std::min(begin + size, inputs)});
  }
  return found;
}

// One block of every map: of each group's own, then of those of all rows.
template <int O, class C, class W>
inline void update_block(const Moves<C, W>& moves, const Groups& groups, int64_t o, const Block& block, int64_t inputs,
                         int64_t outputs, const C* delta, const C* x) {
  alignas(64) C total[O * kChunk] = {};
  for (int64_t group = 0; group < groups.count; ++group) {
    update_outputs<O>(moves, groups, group, o, block.begin, block.end, inputs, outputs, delta, x, total);
  }
  for (int k = 0; k < O; ++k) {
    moves.move_whole((o + k) * inputs + block.begin, total + k * kChunk, block.end - block.begin);
  }
}

template <class C, class W>
void update(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* delta, const C* x,
            const Moves<C, W>& moves) {
  const int64_t work = groups.rows() * inputs * outputs;
  if (!groups.count) return;
  if (moves.any_whole()) {
    const auto items = blocks(inputs, outputs, kVectors * Lanes<C>::count, threads);
    each(items, work, threads, [&](const Block& block) {
      int64_t o = block.o;
      if (o + kRows <= outputs) {
        update_block<kRows>(moves, groups, o, block, inputs, outputs, delta, x);
      } else {
        for (; o < outputs; ++o) update_block<1>(moves, groups, o, block, inputs, outputs, delta, x);
      }
    });
    return;
  }
  const auto items = cut(groups, outputs, inputs, [](int64_t) { return kRows; }, threads);
  each(items, work, threads, [&](const Item& item) {
    int64_t o = item.begin;
    C* none = nullptr;
    for (; o + kRows <= item.end; o += kRows) {
      update_outputs<kRows>(moves, groups, item.group, o, 0, inputs, inputs, outputs, delta, x, none);
    }
    for (; o < item.end; ++o) {
      update_outputs<1>(moves, groups, item.group, o, 0, inputs, inputs, outputs, delta, x, none);
    }
  });
}

// Biases: as weights on an input that is always one.
template <class C, class W>
void update_bias(const Groups& groups, int64_t outputs, const C* delta, const Moves<C, W>& moves) {
  std::vector<C> gradient(outputs), total(outputs, C(0));
  for (int64_t group = 0; group < groups.count; ++group) {
    std::fill(gradient.begin(), gradient.end(), C(0));
    for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
      const C* row = delta + groups.row(position) * outputs;
      for (int64_t o = 0; o < outputs; ++o) gradient[o] += row[o];
    }
    moves.move_own(group, groups.slot(group) * outputs, gradient.data(), outputs);
    for (int64_t o = 0; o < outputs; ++o) total[o] += gradient[o];
  }
  if (groups.count) moves.move_whole(0, total.data(), outputs);
}

}  // namespace

// ---- what Python calls ---------------------------------------------------------------------------------------------

extern "C" {

// Sorts the rows by area, stably: fills order (rows), present and bounds; returns the number of areas that have rows.
int64_t brodmann_group(const int64_t* area, int64_t rows, int64_t areas, int64_t* order, int64_t* present,
                       int64_t* bounds) {
  std::vector<int64_t> next(areas, 0);
  for (int64_t row = 0; row < rows; ++row) ++next[area[row]];
  int64_t count = 0, start = 0;
  for (int64_t index = 0; index < areas; ++index) {
    const int64_t here = next[index];
    next[index] = start;
    if (here) {
      present[count] = index;
      bounds[count++] = start;
      start += here;
    }
  }
  bounds[count] = start;
  for (int64_t row = 0; row < rows; ++row) order[next[area[row]]++] = row;
  return count;
}

#define BRODMANN_GROUPS \
  int64_t threads, int64_t count, const int64_t *present, const int64_t *bounds, const int64_t *order, \
      const int64_t *slots, int64_t inputs, int64_t outputs
#define BRODMANN_TARGET(NAME, C, W) \
  W *NAME##_weight, C *NAME##_first, C *NAME##_second, int64_t *NAME##_steps, double NAME##_lr, double NAME##_decay, \
      int64_t NAME##_seed
#define BRODMANN_GIVEN(NAME, C, W) \
  Target<C, W> { \
    NAME##_weight, NAME##_first, NAME##_second, NAME##_steps, NAME##_lr, NAME##_decay, uint32_t(NAME##_seed) \
  }

#define BRODMANN_OPERATIONS(NAME, C, W) \
  void brodmann_forward_##NAME(BRODMANN_GROUPS, const C* x, const W* weight, const C* bias, C* out) { \
    forward<C, W>(int(threads), {count, present, bounds, order, slots}, inputs, outputs, x, weight, bias, out); \
  } \
  void brodmann_error_##NAME(BRODMANN_GROUPS, const C* delta, const W* weight, C* below) { \
    error<C, W>(int(threads), {count, present, bounds, order, slots}, inputs, outputs, delta, weight, below); \
  } \
  void brodmann_update_##NAME(BRODMANN_GROUPS, const C* delta, const C* x, int64_t kind, double beta1, double beta2, \
                              double epsilon, BRODMANN_TARGET(own, C, W), BRODMANN_TARGET(a, C, W), \
                              BRODMANN_TARGET(b, C, W)) { \
    const Groups groups{count, present, bounds, order, slots}; \
    const Moves<C, W> moves({kind, beta1, beta2, epsilon}, BRODMANN_GIVEN(own, C, W), BRODMANN_GIVEN(a, C, W), \
                            BRODMANN_GIVEN(b, C, W), groups); \
    if (x) { \
      update<C, W>(int(threads), groups, inputs, outputs, delta, x, moves); \
    } else { \
      update_bias<C, W>(groups, outputs, delta, moves); \
    } \
  }

BRODMANN_OPERATIONS(float32, float, float)
BRODMANN_OPERATIONS(float64, double, double)
BRODMANN_OPERATIONS(bfloat16, float, BFloat16)

}  // extern "C"
