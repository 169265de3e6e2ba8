// Cross-entropy of small outputs: the loss and its derivative in one pass, where PyTorch makes ten.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

// loss = mean over rows of -sum_c q[c] log p[c] and error = (p - q) / rows, with p the softmax of the output and q the
// target's one-hot vector, of which `smoothing` is spread over all classes: output, error (rows, classes), target
// (rows). Returns whether every target is a class; nothing is written beyond the first that is not.
template <class C>
bool cross_entropy(int64_t rows, int64_t classes, const C* output, const int64_t* target, C smoothing, C* error,
                   C* loss) {
  const C share = C(1) / C(rows), even = smoothing / C(classes);
  C total = 0;
  for (int64_t row = 0; row < rows; ++row, output += classes, error += classes) {
    const int64_t right = target[row];
    if (right < 0 || right >= classes) return false;
    const C largest = *std::max_element(output, output + classes);
    C sum = 0, mean = 0;
    for (int64_t c = 0; c < classes; ++c) {
      error[c] = std::exp(output[c] - largest);
      sum += error[c];
      mean += output[c] - largest;
    }
    for (int64_t c = 0; c < classes; ++c) error[c] = share * (error[c] / sum - even);
    error[right] -= share * (1 - smoothing);
    const C evenly = smoothing == 0 ? C(0) : smoothing * (mean / C(classes));  // may be infinite where it counts nothing
    total += std::log(sum) - (1 - smoothing) * (output[right] - largest) - evenly;
  }
  *loss = share * total;
  return true;
}

}  // namespace
