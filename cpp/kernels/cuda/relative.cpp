#include "kernels/cuda/relative.h"

#include <algorithm>

namespace vlt::cuda {
namespace {

template <typename Value>
void append_padded(std::vector<Value>& to, const Value* values, int64_t count) {
  to.insert(to.end(), static_cast<size_t>(kDistancePadding), values[0]);
  to.insert(to.end(), values, values + count);
  to.insert(to.end(), static_cast<size_t>(kDistancePadding), values[count - 1]);
}

// The kept rows of [R, A·D] as [A, kept rows, row_stride]; nothing where there are none.
std::vector<float> by_head(const float* rows, const std::vector<int32_t>& kept,
                           const RelativeTensors& tensors) {
  if (!rows) return {};
  const int64_t size = tensors.head_size, stride = relative_row_stride(size);
  std::vector<float> tables(static_cast<size_t>(tensors.num_heads * stride) * kept.size());
  float* to = tables.data();
  for (int64_t head = 0; head < tensors.num_heads; ++head)
    for (const int32_t row : kept) {
      std::copy_n(rows + (row * tensors.num_heads + head) * size, size, to);
      to += stride;
    }
  return tables;
}

}  // namespace

RelativeTables lay_out(const RelativeTensors& tensors) {
  RelativeTables tables;
  const int64_t count = tensors.num_distances;
  if (tensors.bias)
    for (int64_t head = 0; head < tensors.num_heads; ++head)
      append_padded(tables.bias, tensors.bias + head * count, count);
  if (!tensors.row) return tables;
  std::vector<int32_t> kept, renumbered;
  for (int64_t i = 0; i < count; ++i) {
    if (kept.empty() || kept.back() != tensors.row[i]) kept.push_back(tensors.row[i]);
    renumbered.push_back(static_cast<int32_t>(kept.size()) - 1);
  }
  append_padded(tables.row, renumbered.data(), count);
  tables.num_rows = static_cast<int64_t>(kept.size());
  tables.key_rows = by_head(tensors.key_rows, kept, tensors);
  tables.query_rows = by_head(tensors.query_rows, kept, tensors);
  return tables;
}

}  // namespace vlt::cuda
