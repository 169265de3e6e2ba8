// Drives every kernel over shapes that divide nothing, from buffers that end where their numbers end, with one thread
// and with several. Built with a sanitiser (tests/test_sanitisers.py), it finds reads and writes beyond a buffer,
// undefined arithmetic, and two threads that touch one number. Named a file, it writes there what came out: results of
// other processors can be compared (tests/test_processors.py).

#include "grouped.cpp"

#include <cstdio>
#include <cstdlib>
#include <random>

namespace {

std::mt19937 generator(1);
std::FILE* results = nullptr;

int64_t below(int64_t limit) { return std::uniform_int_distribution<int64_t>(0, limit - 1)(generator); }

template <class T>
std::vector<T> numbers(int64_t count) {
  std::normal_distribution<double> normal;
  std::vector<T> found(count);
  for (auto& value : found) value = T(normal(generator));
  return found;
}

template <>
std::vector<BFloat16> numbers<BFloat16>(int64_t count) {
  std::vector<BFloat16> found(count);
  for (auto& value : found) value.bits = uint16_t(0x3F80 + below(128));
  return found;
}

template <class T>
void same(const std::vector<T>& ours, const std::vector<T>& theirs, const char* what) {
  if (std::memcmp(ours.data(), theirs.data(), ours.size() * sizeof(T)) != 0) {
    std::printf("%s depends on the number of threads\n", what);
    std::exit(1);
  }
}

template <class T>
void write(const std::vector<T>& found) {
  for (const T& value : found) {
    const double number = widen(value);
    if (results) std::fwrite(&number, sizeof number, 1, results);
  }
}

// A weight and the state beside it, in buffers of their exact size.
template <class C, class W>
struct Moving {
  std::vector<W> weight;
  std::vector<C> first, second;
  std::vector<int64_t> steps;

  Moving(const std::vector<W>& start, int64_t slots)
      : weight(start), first(start.size()), second(start.size()), steps(slots) {}

  Target<C, W> target() { return {weight.data(), first.data(), second.data(), steps.data(), 0.01, 0.1, 7}; }
};

// A step of both cells of recurrent layers and its errors, from numbers that depend on the sizes alone.
template <class C>
std::vector<C> cells(int threads, int64_t rows, int64_t units) {
  const int64_t size = rows * units;
  std::vector<C> below(4 * size), before(4 * size), state(size), error(size), found;
  for (int64_t k = 0; k < 4 * size; ++k) below[k] = std::sin(C(k)), before[k] = std::cos(C(3 * k));
  for (int64_t k = 0; k < size; ++k) state[k] = std::sin(C(5 * k)), error[k] = std::cos(C(k));
  std::vector<C> gates(4 * size), c(size), squashed(size), h(size), of_gates(4 * size), of_c(size);
  lstm<C>(threads, rows, units, below.data(), 4 * units, before.data(), state.data(), gates.data(), c.data(),
          squashed.data(), h.data());
  lstm_down<C>(threads, rows, units, error.data(), state.data(), gates.data(), state.data(), squashed.data(),
               of_gates.data(), of_c.data());
  for (auto* part : {&below, &before, &gates, &of_gates}) part->resize(3 * size), part->shrink_to_fit();
  std::vector<C> of_before(3 * size), of_h(size);
  gru<C>(threads, rows, units, below.data(), 3 * units, before.data(), state.data(), gates.data(), h.data());
  gru_down<C>(threads, rows, units, error.data(), gates.data(), before.data(), state.data(), of_gates.data(),
              of_before.data(), of_h.data());
  for (const auto* part : {&c, &of_c, &h, &of_gates, &of_before, &of_h}) {
    found.insert(found.end(), part->begin(), part->end());
  }
  return found;
}

// One batch of random size through every operation and rule.
template <class C, class W>
void batch(int64_t rows, int64_t areas, int64_t inputs, int64_t outputs) {
  std::vector<int64_t> area(rows), order(rows), present(std::min(rows, areas)), bounds(present.size() + 1);
  for (auto& choice : area) choice = below(areas);
  const int64_t count = brodmann_group(area.data(), rows, areas, nullptr, 0, order.data(), present.data(), bounds.data());
  std::vector<int64_t> slots(areas), apart;
  for (int64_t index = 0; index < areas; ++index) slots[index] = areas - 1 - index;
  const Groups groups{count, present.data(), bounds.data(), order.data(), below(2) ? slots.data() : nullptr};
  for (int64_t index = 0; index < areas; ++index) {
    if (below(4) == 0) apart.push_back(index);
  }
  auto order_of_others = order, present_of_others = present, bounds_of_others = bounds;
  const int64_t left = brodmann_group(area.data(), rows, areas, apart.data(), apart.size(), order_of_others.data(),
                                      present_of_others.data(), bounds_of_others.data());
  const Groups others{left, present_of_others.data(), bounds_of_others.data(), order_of_others.data(), groups.slots};

  const auto x = numbers<C>(rows * inputs), delta = numbers<C>(rows * outputs), bias = numbers<C>(areas * outputs);
  const auto weight = numbers<W>(areas * outputs * inputs);
  const auto prototypes = numbers<C>(outputs * inputs), gradient = numbers<C>(areas * outputs * inputs);
  const int64_t ends[] = {0, 1};
  const Groups only{1, ends, ends, nullptr, nullptr};
  std::vector<int64_t> cell[2];
  std::vector<C> out[2], down[2];
  std::vector<Moving<C, W>> moved[2];
  std::vector<Moving<C, C>> moved_bias;
  for (int pass = 0; pass < 2; ++pass) {
    const int threads = pass ? 3 : 1;
    cell[pass].resize(rows);
    nearest<C>(threads, rows, outputs, inputs, x.data(), prototypes.data(), cell[pass].data());
    out[pass].resize(rows * outputs);
    forward(threads, groups, inputs, outputs, x.data(), weight.data(), below(2) ? bias.data() : nullptr,
            delta.data(), out[pass].data(), true);
    forward(threads, groups, inputs, outputs, x.data(), weight.data(), bias.data(), static_cast<const C*>(nullptr),
            out[pass].data(), false);
    down[pass].resize(rows * inputs);
    error(threads, groups, inputs, outputs, delta.data(), weight.data(), down[pass].data(), x.data());
    moved[pass].assign(2, {weight, areas});
    moved_bias.push_back({bias, areas});
    for (const int64_t kind : {kDescent, kMomentum, kAdam}) {
      const Rule rule{kind, 0.9, 0.99, 1e-8};
      for (const bool both : {false, true}) {
        auto &first = moved[pass][0], &second = moved[pass][1];
        const Groups& moving = both ? others : groups;
        const Moves<C, W> moves(rule, first.target(), both ? second.target() : Target<C, W>{}, moving);
        update(threads, moving, inputs, outputs, delta.data(), x.data(), moves);
        update_bias<C>(moving, outputs, delta.data(), {rule, moved_bias[pass].target(), {}, moving});
        move_by<C, W>(threads, only, areas * outputs * inputs, gradient.data(), {rule, first.target(), {}, only});
      }
    }
  }
  std::vector<int64_t> target(rows);
  for (auto& right : target) right = below(outputs);
  const auto gate_error = numbers<C>(rows);
  std::vector<C> error_of_gate[2], error_of_loss(rows * outputs);
  for (int turn = 0; turn < 2; ++turn) {
    error_of_gate[turn].resize(rows * inputs);
    gate_down<C>(1 + 2 * turn, rows, outputs, inputs, x.data(), prototypes.data(), cell[0].data(), gate_error.data(),
                 C(0.3), error_of_gate[turn].data());
  }
  std::vector<C> normed[2], error_of_norm[2];
  for (int turn = 0; turn < 2; ++turn) {
    std::vector<C> scale(rows);
    normed[turn].resize(rows * inputs);
    error_of_norm[turn].resize(rows * inputs);
    norm<C>(1 + 2 * turn, rows, inputs, x.data(), C(1e-6), normed[turn].data(), scale.data());
    norm_down<C>(1 + 2 * turn, rows, inputs, x.data(), scale.data(), down[0].data(), error_of_norm[turn].data());
  }
  std::vector<C> of_cells[2];
  for (int turn = 0; turn < 2; ++turn) of_cells[turn] = cells<C>(1 + 2 * turn, rows, inputs);
  C loss;
  if (!cross_entropy<C>(rows, outputs, delta.data(), target.data(), C(0.1), error_of_loss.data(), &loss)) std::abort();
  target[below(rows)] = below(2) ? -1 : outputs;
  if (cross_entropy<C>(rows, outputs, delta.data(), target.data(), C(0), error_of_loss.data(), &loss)) std::abort();
  area[below(rows)] = below(2) ? -1 : areas;
  if (brodmann_group(area.data(), rows, areas, nullptr, 0, order.data(), present.data(), bounds.data()) != -1) {
    std::abort();
  }

  same(cell[0], cell[1], "the nearest prototype");
  same(out[0], out[1], "forward");
  same(down[0], down[1], "error");
  same(error_of_gate[0], error_of_gate[1], "the error of the gate");
  same(normed[0], normed[1], "the norm");
  same(error_of_norm[0], error_of_norm[1], "the error of the norm");
  same(of_cells[0], of_cells[1], "a cell");
  same(moved_bias[0].weight, moved_bias[1].weight, "update of the bias");
  for (int k = 0; k < 2; ++k) {
    same(moved[0][k].weight, moved[1][k].weight, "update");
    same(moved[0][k].first, moved[1][k].first, "the first moment");
    same(moved[0][k].second, moved[1][k].second, "the second moment");
    write(moved[0][k].weight);
  }
  for (const auto* found : {&out[0], &down[0], &moved_bias[0].weight, &error_of_gate[0], &normed[0],
                             &error_of_norm[0], &error_of_loss, &of_cells[0]}) write(*found);
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 1) results = std::fopen(arguments[1], "wb");
  const int64_t sizes[] = {1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 65, 130};
  const auto size = [&] { return sizes[below(std::size(sizes))]; };
  for (int turn = 0; turn < 60; ++turn) {
    const int64_t rows = 1 + below(90), areas = 1 + below(6), inputs = size(), outputs = size();
    batch<float, float>(rows, areas, inputs, outputs);
    batch<double, double>(rows, areas, inputs, outputs);
    batch<float, BFloat16>(rows, areas, inputs, outputs);
  }
  for (const int64_t rows : {3, 15, 120}) {  // beyond one tile of inputs, one block of terms, one block of rows
    batch<float, float>(rows, 1, 1100, 9);
    batch<float, float>(rows, 2, 9, 1100);
    batch<float, BFloat16>(rows, 1, 1100, 9);
  }
  batch<float, float>(1100, 1, 33, 17);
  batch<double, double>(1100, 1, 17, 33);
  if (results) std::fclose(results);
  std::printf("clean\n");
}
