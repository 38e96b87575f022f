#include "encoder/schedule.h"

#include <algorithm>
#include <numeric>

namespace vlt {
namespace {

// Streaming a layer's weights through a core costs as much as computing this many tokens with them:
// 4 bytes a weight at 20 GB/s against 2 operations a weight and token at 90 GFLOP/s.
constexpr double kWeightStreamTokens = 8;

// A barrier of all workers is about 3 µs, and there are 6 to 8 a layer.
constexpr double kBarrierFlops = 3e-6 * 90e9;

// Workers that share a chunk wait for the slowest of them after every operation, and each reads what
// all of them wrote; those that have sequences of their own do neither. On 16 threads of a shared
// machine that takes a third of the time and more.
constexpr double kSharingLoss = 1.25;

struct CostModel {
  double flops_per_token;    // linear layers
  double flops_per_squared;  // attention
  double barriers;

  explicit CostModel(const Architecture& a) {
    const double hidden = a.hidden_size, inner = double{1} * a.num_heads * a.head_size;
    flops_per_token = a.num_layers * (8 * hidden * inner + 4 * hidden * a.intermediate_size);
    flops_per_squared = a.num_layers * 4 * inner;
    barriers = 6.0 * a.num_layers * kBarrierFlops;
  }
};

// Of what is left a worker's chunk takes a part, at least this many tokens: large chunks first, then
// ever smaller ones, so that all workers end at about the same time. (Guided self-scheduling, after
// Polychronopoulos and Kuck, 1987.)
constexpr int64_t kLeastTokens = 64;

std::vector<Chunk> cut(const int32_t* starts, int32_t num_sequences, int64_t most_tokens, int parts,
                       int32_t most_sequences, const CostModel& model) {
  const auto most_of = [&](int64_t tokens_left) {
    return std::min(most_tokens, std::max(tokens_left / parts, kLeastTokens));
  };
  std::vector<Chunk> chunks;
  double squares = 0;
  const auto close = [&](Chunk& chunk) {
    chunk.cost = model.flops_per_squared * squares +
                 model.flops_per_token *
                     std::max(static_cast<double>(chunk.num_tokens), kWeightStreamTokens);
    chunks.push_back(chunk);
    squares = 0;
  };
  Chunk chunk;
  int64_t target = most_of(starts[num_sequences] - starts[0]);
  for (int32_t s = 0; s < num_sequences; ++s) {
    const int64_t length = starts[s + 1] - starts[s];
    const bool full =
        chunk.num_tokens + length > target || chunk.end - chunk.first >= most_sequences;
    if (full && chunk.end > chunk.first) {
      close(chunk);
      chunk = Chunk{s, s, 0, 0};
      target = most_of(starts[num_sequences] - starts[s]);
    }
    chunk.end = s + 1;
    chunk.num_tokens += length;
    squares += static_cast<double>(length) * static_cast<double>(length);
  }
  if (chunk.end > chunk.first) close(chunk);
  std::stable_sort(chunks.begin(), chunks.end(),
                   [](const Chunk& a, const Chunk& b) { return a.cost > b.cost; });
  return chunks;
}

// The time of the busiest worker when each takes the next chunk as soon as it is free.
double makespan(const std::vector<Chunk>& chunks, int workers) {
  std::vector<double> busy(static_cast<size_t>(workers), 0.0);
  for (const Chunk& chunk : chunks) *std::min_element(busy.begin(), busy.end()) += chunk.cost;
  return *std::max_element(busy.begin(), busy.end());
}

double total_cost(const std::vector<Chunk>& chunks) {
  return std::accumulate(chunks.begin(), chunks.end(), 0.0,
                         [](double sum, const Chunk& chunk) { return sum + chunk.cost; });
}

}  // namespace

Schedule make_schedule(const int32_t* starts, int32_t num_sequences,
                       const Architecture& architecture, int workers, const ChunkLimits& limits) {
  const CostModel model(architecture);
  Schedule alone, together;
  if (limits.alone_tokens > 0) {
    alone.mode = Stream::Mode::kAlone;
    alone.chunks = cut(starts, num_sequences, limits.alone_tokens, workers > 1 ? 2 * workers : 1,
                       limits.sequences, model);
    alone.workers = std::min(workers, std::max(static_cast<int>(alone.chunks.size()), 1));
  }
  if (workers == 1 || limits.together_tokens == 0) return alone;

  together.mode = Stream::Mode::kTogether;
  together.workers = workers;
  together.chunks = cut(starts, num_sequences, limits.together_tokens, 1, limits.sequences, model);
  if (limits.alone_tokens == 0) return together;

  const double shared_cost = kSharingLoss * total_cost(together.chunks) / workers +
                             model.barriers * static_cast<double>(together.chunks.size());
  return makespan(alone.chunks, workers) <= shared_cost ? alone : together;
}

}  // namespace vlt
