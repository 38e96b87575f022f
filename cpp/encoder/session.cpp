#include "encoder/session.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/error.h"
#include "encoder/forward.h"
#include "encoder/heads.h"
#include "encoder/red_zones.h"

namespace vlt {
namespace {

bool poison_requested() {
  const char* value = std::getenv("VLT_POISON_WORKSPACE");
  return value && std::strcmp(value, "1") == 0;
}

uint64_t round_down(uint64_t bytes, uint64_t step) { return bytes / step * step; }
uint64_t round_up(uint64_t bytes, uint64_t step) { return (bytes + step - 1) / step * step; }

// Every byte 0xff makes every float a NaN.
void poison(std::byte* begin, uint64_t bytes) { std::memset(begin, 0xff, bytes); }

int32_t longest_sequence(const PackedBatch& batch) {
  int32_t longest = 0;
  for (int32_t s = 0; s < batch.num_sequences; ++s)
    longest = std::max(longest, batch.sequence_starts[s + 1] - batch.sequence_starts[s]);
  return longest;
}

}  // namespace

// The workspace of one run:
//
//   │ scratch of worker 0 │ … │ activations of lane 0 │ … │
//
// A lane is a worker that works alone, or all of them together.
struct Session::Layout {
  uint64_t scratch_bytes = 0;  // of one worker
  uint64_t lane_bytes = 0;
  uint64_t lanes_offset = 0;
  uint64_t total_bytes = 0;

  std::byte* lane(std::byte* block, int index) const {
    return block + lanes_offset + static_cast<uint64_t>(index) * lane_bytes;
  }
};

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options)
    : model_(std::move(model)),
      options_(options),
      poison_(poison_requested()),
      plan_(model_->architecture(), model_->backend(), poison_ ? kRedZoneBytes : 0),
      stream_(model_->backend().create_stream(options.num_workers)),
      callback_memory_(options.callbacks),
      arena_(options.callbacks.allocate ? callback_memory_ : host_memory(),
             options.workspace_limit) {}

uint64_t Session::scratch_bytes(int64_t longest) const {
  return model_->backend().scratch_bytes(longest, model_->architecture().head_size);
}

Session::Layout Session::lay_out(const Schedule& schedule, int32_t longest) const {
  Layout layout;
  int64_t tokens = 0, sequences = 0;
  for (const Chunk& chunk : schedule.chunks) {
    tokens = std::max(tokens, chunk.num_tokens);
    sequences = std::max<int64_t>(sequences, chunk.end - chunk.first);
  }
  const auto workers = static_cast<uint64_t>(schedule.workers);
  const uint64_t lanes = schedule.mode == Stream::Mode::kAlone ? workers : 1;
  layout.scratch_bytes = scratch_bytes(longest);
  layout.lane_bytes = plan_.bytes(tokens, sequences);
  layout.lanes_offset = workers * layout.scratch_bytes;
  layout.total_bytes = layout.lanes_offset + lanes * layout.lane_bytes;
  return layout;
}

// What chunks may hold so that `workers` workers stay within the workspace limit: as many sequences
// as leave room for the longest one, as many tokens as leave room for those. Zeros: no way.
ChunkLimits Session::chunk_limits(int32_t num_sequences, int32_t longest, int workers) const {
  ChunkLimits limits{kAloneTokens, kTogetherTokensPerWorker * workers,
                     std::clamp(num_sequences, 1, kMaxChunkSequences)};
  if (options_.workspace_limit == 0) return limits;
  const uint64_t scratch = static_cast<uint64_t>(workers) * scratch_bytes(longest);
  const uint64_t limit = options_.workspace_limit / arena_.granularity() * arena_.granularity();
  if (limit < scratch) return {};
  const uint64_t left = limit - scratch;
  const int64_t needed = std::max(longest, 1);
  while (limits.sequences > 1 && plan_.most_tokens(left, limits.sequences) < needed)
    limits.sequences /= 2;
  const auto fit = [&](int64_t wanted, uint64_t bytes) -> int64_t {
    const int64_t most = plan_.most_tokens(bytes, limits.sequences);
    return most < needed ? 0 : std::min(wanted, most);
  };
  limits.alone_tokens = fit(limits.alone_tokens, left / static_cast<uint64_t>(workers));
  limits.together_tokens = fit(limits.together_tokens, left);
  return limits;
}

Schedule Session::schedule(const PackedBatch& batch, int32_t longest) const {
  // Fewer workers need less scratch: where the limit is tight, one has to do.
  for (const int workers : {stream_->num_workers(), 1}) {
    const ChunkLimits limits = chunk_limits(batch.num_sequences, longest, workers);
    if (limits.alone_tokens > 0 || (limits.together_tokens > 0 && workers > 1))
      return make_schedule(batch.sequence_starts, batch.num_sequences, model_->architecture(),
                           workers, limits);
  }
  const uint64_t needed =
      round_up(scratch_bytes(longest) + plan_.bytes(std::max(longest, 1), 1), arena_.granularity());
  throw Error(Status::kOutOfMemory, "a sequence of " + std::to_string(longest) + " tokens needs " +
                                        std::to_string(needed) +
                                        " bytes of workspace; the limit is " +
                                        std::to_string(options_.workspace_limit));
}

void Session::run(const PackedBatch& batch, const Outputs& outputs) {
  check_batch(batch, model_->architecture());
  stop_.store(false);
  running_.store(true);
  struct Finish {
    std::atomic<bool>& running;
    ~Finish() { running.store(false); }
  } finish{running_};

  const auto start = std::chrono::steady_clock::now();
  const int32_t longest = longest_sequence(batch);
  const Schedule plan = schedule(batch, longest);
  const Layout layout = lay_out(plan, longest);
  stats_.planning_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  std::byte* block = acquire(layout);
  stats_.planned_peak_bytes = round_up(layout.total_bytes, arena_.granularity());
  run_chunks(batch, outputs, plan, layout, block);
  ++stats_.runs;
  stats_.parts += plan.chunks.size();
  if (stop_.load()) throw Error(Status::kCancelled, "the run was cancelled");
}

std::byte* Session::acquire(const Layout& layout) {
  std::byte* block = arena_.acquire(layout.total_bytes);
  stats_.memory = arena_.stats();
  if (!block)
    throw Error(Status::kOutOfMemory, "no memory for a workspace of " +
                                          std::to_string(layout.total_bytes) +
                                          " bytes; a smaller workspace_limit may help");
  return block;
}

void Session::run_chunks(const PackedBatch& batch, const Outputs& outputs, const Schedule& plan,
                         const Layout& layout, std::byte* block) {
  const bool alone = plan.mode == Stream::Mode::kAlone;
  const std::function<bool()> stop_requested = [this] { return stop_.load(); };
  std::vector<Profile> profiles(static_cast<size_t>(plan.workers));
  std::atomic<const char*> culprit{nullptr};
  const auto run_observed = [&](const Chunk& chunk, int worker, Operations& operations) {
    std::byte* lane = layout.lane(block, alone ? worker : 0);
    ProfileObserver profiler(profiles[static_cast<size_t>(worker)],
                             alone ? 1.0 : 1.0 / plan.workers);
    RedZoneObserver guard(block, layout.total_bytes, culprit);
    ObservedOperations profiled(operations, profiler), guarded(operations, guard);
    Operations& observed = poison_ ? guarded : options_.profile ? profiled : operations;
    run_chunk(batch, outputs, chunk, lane, observed);
  };

  if (alone) {
    if (poison_) poison(block, layout.lanes_offset);
    std::atomic<size_t> next{0};
    stream_->run(plan.mode, plan.workers, block, layout.scratch_bytes, stop_requested,
                 [&](int worker, Operations& operations) {
                   for (size_t i; !stop_.load() && (i = next.fetch_add(1)) < plan.chunks.size();) {
                     if (poison_) poison(layout.lane(block, worker), layout.lane_bytes);
                     run_observed(plan.chunks[i], worker, operations);
                   }
                 });
  } else {
    for (const Chunk& chunk : plan.chunks) {
      if (stop_.load()) break;
      if (poison_) poison(block, layout.total_bytes);
      stream_->run(
          plan.mode, plan.workers, block, layout.scratch_bytes, stop_requested,
          [&](int worker, Operations& operations) { run_observed(chunk, worker, operations); });
    }
  }
  for (const Profile& profile : profiles) profile_.add(profile);
  if (culprit.load())
    throw Error(Status::kInternal,
                std::string("operation ") + culprit.load() + " wrote behind its output");
}

void Session::run_chunk(const PackedBatch& batch, const Outputs& outputs, const Chunk& chunk,
                        std::byte* block, Operations& operations) const {
  const int32_t first_token = batch.sequence_starts[chunk.first];
  const int64_t num_sequences = chunk.end - chunk.first;
  Sequences sequences;
  sequences.num_sequences = chunk.end - chunk.first;
  sequences.sequence_starts = batch.sequence_starts + chunk.first;
  sequences.token_ids = batch.token_ids ? batch.token_ids + first_token : nullptr;
  sequences.token_types = batch.token_types ? batch.token_types + first_token : nullptr;
  sequences.pooling_starts = batch.pooling_starts ? batch.pooling_starts + chunk.first : nullptr;

  const Architecture& architecture = model_->architecture();
  const Activations activations = plan_.place(block, chunk.num_tokens, num_sequences);
  Matrix states = activations.states;
  if (outputs.hidden) {
    states.data = outputs.hidden + int64_t{first_token} * architecture.hidden_size;
    states.stride = architecture.hidden_size;
  }
  if (!forward(*model_, sequences, activations, states, operations)) return;
  if (outputs.embedding) {
    const int64_t size = architecture.embedding_size;
    const Matrix out{outputs.embedding + chunk.first * size, num_sequences, size, size};
    embed(*model_, sequences, states, activations, out, operations);
  }
}

void Session::request_stop() {
  if (running_.load()) stop_.store(true);
}

uint64_t Session::workspace_bytes(int64_t num_tokens, int32_t num_sequences,
                                  int32_t max_length) const {
  const int64_t longest = std::min<int64_t>(max_length, num_tokens);
  const int64_t sequences = std::min(num_sequences, kMaxChunkSequences);
  const int64_t workers = stream_->num_workers();
  const auto lane = [&](int64_t chunk_tokens) {
    return plan_.bytes(std::min(num_tokens, std::max(chunk_tokens, longest)), sequences);
  };
  const uint64_t alone =
      static_cast<uint64_t>(std::min<int64_t>(workers, num_sequences)) * lane(kAloneTokens);
  const uint64_t together = workers > 1 ? lane(kTogetherTokensPerWorker * workers) : 0;
  const uint64_t bytes =
      static_cast<uint64_t>(workers) * scratch_bytes(longest) + std::max(alone, together);
  return round_up(bytes, arena_.granularity());
}

void Session::reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length) {
  uint64_t bytes = workspace_bytes(num_tokens, num_sequences, max_length);
  if (options_.workspace_limit > 0)
    bytes = std::min(bytes, round_down(options_.workspace_limit, arena_.granularity()));
  const bool grown = arena_.reserve(bytes);
  stats_.memory = arena_.stats();
  if (!grown)
    throw Error(Status::kOutOfMemory,
                "no memory to reserve a workspace of " + std::to_string(bytes) + " bytes");
}

}  // namespace vlt
