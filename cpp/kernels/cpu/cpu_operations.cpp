#include "kernels/cpu/cpu_operations.h"

#include <algorithm>

namespace vlt {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The sequence that holds a row, or would: the last one that begins there or before.
int32_t sequence_of(const Sequences& sequences, int64_t row) {
  const int32_t* starts = sequences.sequence_starts;
  const int32_t* next = std::upper_bound(starts, starts + sequences.num_sequences + 1,
                                         static_cast<int32_t>(row) + starts[0]);
  return static_cast<int32_t>(next - starts) - 1;
}

// One head's part of what CpuBackend::prepare_relative laid out.
RelativeHead relative_head(const RelativeWeights& weights, int head, int64_t head_size,
                           int64_t panel_width) {
  const int64_t middle = weights.num_distances / 2;
  const int64_t panels = divide_up(weights.num_rows, panel_width) * panel_width * head_size;
  const auto part = [&](const void* values, int64_t begin) {
    return values ? static_cast<const float*>(values) + begin : nullptr;
  };
  RelativeHead h;
  h.bias = part(weights.bias, head * weights.num_distances + middle);
  h.row = weights.row ? weights.row + middle : nullptr;
  h.key_rows = part(weights.key_rows, head * panels);
  h.query_rows = part(weights.query_rows, head * panels);
  h.num_rows = weights.num_rows;
  return h;
}

}  // namespace

const void* CpuOperations::table_row(const void* table, int64_t element) const {
  return table ? static_cast<const std::byte*>(table) + element * linear_.bytes : nullptr;
}

void CpuOperations::wait_for_others() {
  if (group_) group_->barrier.wait();
}

bool CpuOperations::should_stop() {
  if (!group_) return stop_requested_ && stop_requested_();
  if (rank_ == 0 && stop_requested_ && stop_requested_())
    group_->stop.store(true, std::memory_order_relaxed);
  wait_for_others();
  return group_->stop.load(std::memory_order_relaxed);
}

void CpuOperations::embed_layernorm(const Sequences& sequences, const EmbeddingTables& tables,
                                    const Matrix& out) {
  const int64_t cols = out.cols;
  const Range rows = share(sequences.num_tokens());
  int32_t sequence = sequence_of(sequences, rows.begin);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    while (row >= sequences.first_row(sequence + 1)) ++sequence;
    const int64_t position = row - sequences.first_row(sequence) + tables.position_offset;
    const int64_t type = sequences.token_types ? sequences.token_types[row] : 0;
    EmbeddingRow e;
    e.word = table_row(tables.word, sequences.token_ids[row] * cols);
    e.token_type = table_row(tables.token_type, type * cols);
    e.position = table_row(tables.position, position * cols);
    e.bfloat16 = linear_.bytes == 2;
    e.weight = tables.norm.weight;
    e.bias = tables.norm.bias;
    e.epsilon = tables.norm.epsilon;
    e.cols = cols;
    e.out = out.row(row);
    kernels_.embed_layernorm(e);
  }
  wait_for_others();
}

// Few splits read weights once and every row's inputs often, many splits the other way round.
int CpuOperations::row_splits(const LinearKernel& kernel, int64_t rows, int64_t panels) const {
  int best = 1;
  int64_t best_cost = 0;
  for (int splits = 1; splits <= size_; ++splits) {
    if (size_ % splits != 0) continue;
    const int64_t my_rows = divide_up(rows, splits);
    const int64_t my_panels = divide_up(panels, size_ / splits);
    const int64_t strips = divide_up(my_rows, kernels_.strip_rows);
    // A strip costs its rows, and about as much as two rows for streaming the panel past it.
    const int64_t cost =
        (my_rows + 2 * strips + kernel.rows_a_panel) * my_panels + kernel.panels_a_row * my_rows;
    if (splits == 1 || cost < best_cost) {
      best = splits;
      best_cost = cost;
    }
  }
  return best;
}

void CpuOperations::norm_rows(const Matrix& in, const Matrix* residual, const NormWeights& norm,
                              const Matrix& out, Range range) {
  NormBlock n;
  n.in = in.row(range.begin);
  n.in_stride = in.stride;
  n.residual = residual ? residual->row(range.begin) : nullptr;
  n.residual_stride = residual ? residual->stride : 0;
  n.out = out.row(range.begin);
  n.out_stride = out.stride;
  n.weight = norm.weight;
  n.bias = norm.bias;
  n.epsilon = norm.epsilon;
  n.rows = range.end - range.begin;
  n.cols = out.cols;
  kernels_.layernorm(n);
}

void CpuOperations::linear_rows(const Matrix& in, const LinearWeights& weights,
                                Activation activation, const Matrix* residual,
                                const NormWeights* norm, const Matrix& out) {
  const int64_t panels = divide_up(weights.outputs, kernels_.panel_width);
  const LinearKernel& kernel = weights.scales ? *linear_int8_ : linear_;
  const int row_parts = row_splits(kernel, in.rows, panels);
  const int panel_parts = size_ / row_parts;
  const Range rows = share(in.rows, rank_ / panel_parts, row_parts);
  const Range my_panels = share(panels, rank_ % panel_parts, panel_parts);

  LinearBlock b;
  b.input_factors = weights.input_factors;
  b.scales = weights.scales;
  b.sums = weights.sums;
  b.in = in.floats();
  b.in_stride = in.stride;
  b.panels = weights.data;
  b.scratch = scratch_;
  b.bias = weights.bias;
  b.residual = residual ? residual->floats() : nullptr;
  b.residual_stride = residual ? residual->stride : 0;
  b.out = out.floats();
  b.out_stride = out.stride;
  b.inputs = weights.inputs;
  b.outputs = weights.outputs;
  b.panel_begin = my_panels.begin;
  b.panel_end = my_panels.end;
  b.activation = activation;
  const int64_t blocks = divide_up(rows.end - rows.begin, kernel.most_rows);
  for (int64_t i = 0; i < blocks; ++i) {
    const Range block = share(rows.end - rows.begin, static_cast<int>(i), static_cast<int>(blocks));
    b.row_begin = rows.begin + block.begin;
    b.row_end = rows.begin + block.end;
    kernel.run(b);
    if (norm && panel_parts == 1) norm_rows(out, nullptr, *norm, out, {b.row_begin, b.row_end});
  }
  wait_for_others();
  if (norm && panel_parts > 1) {
    norm_rows(out, nullptr, *norm, out, share(out.rows));
    wait_for_others();
  }
}

void CpuOperations::linear(const Matrix& in, const LinearWeights& weights, Activation activation,
                           const Matrix& out) {
  linear_rows(in, weights, activation, nullptr, nullptr, out);
}

void CpuOperations::linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                              const Matrix& residual, const NormWeights& norm,
                                              const Matrix& out) {
  linear_rows(in, weights, Activation::kIdentity, &residual, &norm, out);
}

void CpuOperations::layernorm(const Matrix& in, const Matrix* residual, const NormWeights& norm,
                              const Matrix& out) {
  norm_rows(in, residual, norm, out, share(in.rows));
  wait_for_others();
}

void CpuOperations::unfold(const Sequences& sequences, const Matrix& in, int width,
                           const Matrix& out) {
  const Range rows = share(sequences.num_tokens());
  int32_t sequence = sequence_of(sequences, rows.begin);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    while (row >= sequences.first_row(sequence + 1)) ++sequence;
    const int64_t first = sequences.first_row(sequence), end = sequences.first_row(sequence + 1);
    for (int k = 0; k < width; ++k) {
      const int64_t neighbour = row + k - width / 2;
      float* to = out.row(row) + k * in.cols;
      if (neighbour >= first && neighbour < end)
        std::copy_n(in.row(neighbour), in.cols, to);
      else
        std::fill_n(to, in.cols, 0.0f);
    }
  }
  wait_for_others();
}

void CpuOperations::gather(const Sequences& sequences, const Matrix& in, const Matrix& out) {
  const Range range = share(sequences.num_chosen);
  for (int64_t c = range.begin; c < range.end; ++c)
    std::copy_n(in.row(sequences.chosen_tokens[c] - sequences.sequence_starts[0]), in.cols,
                out.row(c));
  wait_for_others();
}

// The work is a line of query strips, sequence by sequence and head by head, each as long as its
// sequence; every worker takes an equal stretch of it. Heads cut by a border pack keys twice.
void CpuOperations::attention(const Sequences& sequences, const Matrix& qkv, int num_heads,
                              float scale, const RelativeWeights* relative, const Matrix& out) {
  const int64_t inner = out.cols;
  const int64_t head_size = inner / num_heads;
  const auto strips = [&](int64_t length) { return divide_up(length, attention_.strip_rows); };
  int64_t work = 0;
  for (int32_t s = 0; s < sequences.num_sequences; ++s)
    work += strips(sequences.length(s)) * sequences.length(s) * num_heads;
  const Range mine = share(work);

  int64_t position = 0;
  for (int32_t s = 0; s < sequences.num_sequences && position < mine.end; ++s) {
    const int64_t length = sequences.length(s);
    if (length == 0) continue;
    const int64_t first_row = sequences.first_row(s);
    const int64_t head_strips = strips(length);
    for (int head = 0; head < num_heads; ++head, position += head_strips * length) {
      // strips of this head whose place on the line is in [mine.begin, mine.end)
      const int64_t begin =
          std::clamp(divide_up(mine.begin - position, length), int64_t{0}, head_strips);
      const int64_t end =
          std::clamp(divide_up(mine.end - position, length), int64_t{0}, head_strips);
      if (begin >= end) continue;
      AttentionHead h;
      h.query = qkv.row(first_row) + head * head_size;
      h.key = h.query + inner;
      h.value = h.key + inner;
      h.stride = qkv.stride;
      h.out = out.row(first_row) + head * head_size;
      h.out_stride = out.stride;
      h.length = length;
      h.head_size = head_size;
      h.scale = scale;
      h.row_begin = length * begin / head_strips;
      h.row_end = length * end / head_strips;
      h.relative = relative ? relative_head(*relative, head, head_size, kernels_.panel_width)
                            : RelativeHead{};
      h.scratch = scratch_;
      attention_.run(h);
    }
  }
  wait_for_others();
}

void CpuOperations::pool(const Sequences& sequences, const Matrix& states,
                         const std::vector<PoolingMode>& modes, const Matrix& out) {
  const Range range = share(sequences.num_sequences);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const int32_t s = static_cast<int32_t>(i);
    PoolSequence p;
    p.begin = sequences.pooling_start(s);
    p.length = sequences.length(s);
    p.states = states.row(sequences.first_row(s));
    if (states.rows_of == RowsOf::kSequences) {
      p.length = p.begin < p.length ? 1 : 0;
      p.begin = 0;
      p.states = states.row(s);
    }
    p.stride = states.stride;
    p.cols = states.cols;
    p.out = out.row(s);
    for (const PoolingMode mode : modes) {
      p.mode = mode;
      kernels_.pool(p);
      p.out += states.cols;
    }
  }
  wait_for_others();
}

void CpuOperations::normalize(const Matrix& rows) {
  const Range range = share(rows.rows);
  for (int64_t r = range.begin; r < range.end; ++r) kernels_.normalize(rows.row(r), rows.cols);
  wait_for_others();
}

}  // namespace vlt
