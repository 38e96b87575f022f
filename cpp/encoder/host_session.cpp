#include "encoder/host_session.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "encoder/heads.h"
#include "encoder/red_zones.h"

namespace vlt {
namespace {

// Every byte 0xff makes every float a NaN.
void poison(std::byte* begin, uint64_t bytes) { std::memset(begin, 0xff, bytes); }

int32_t longest_sequence(const PackedBatch& batch) {
  int32_t longest = 0;
  for (int32_t s = 0; s < batch.num_sequences; ++s)
    longest = std::max(longest, batch.sequence_starts[s + 1] - batch.sequence_starts[s]);
  return longest;
}

}  // namespace

HostSession::HostSession(std::shared_ptr<const Model> model, const SessionOptions& options)
    : Session(std::move(model)),
      profiling_(options.profile),
      poison_(poison_requested()),
      stream_(model_->backend().as_host()->create_stream(options.num_workers)),
      callback_memory_(options.callbacks),
      memory_source_(options.callbacks.allocate ? callback_memory_ : host_memory()),
      limit_(options.workspace_limit),
      plan_(*model_, stream_->num_workers(), limit_, memory_source_.granularity(),
            poison_ ? kRedZoneBytes : 0),
      arena_(memory_source_, limit_) {}

void HostSession::run(const PackedBatch& batch, const Outputs& outputs) {
  check_batch(batch, model_->architecture());
  const StopSignal::Run run(stop_);

  const auto start = std::chrono::steady_clock::now();
  const int32_t longest = longest_sequence(batch);
  const Schedule schedule = plan_.schedule(batch.sequence_starts, batch.num_sequences, longest);
  const WorkspaceLayout layout = plan_.layout(schedule, longest);
  stats_.planning_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  std::byte* block = acquire(layout.total_bytes);
  stats_.planned_peak_bytes = layout.total_bytes;
  run_chunks(batch, outputs, schedule, layout, block);
  ++stats_.runs;
  stats_.parts += schedule.chunks.size();
  if (stop_.requested()) throw Error(Status::kCancelled, "the run was cancelled");
}

std::byte* HostSession::acquire(uint64_t bytes) {
  std::byte* block = arena_.acquire(bytes);
  stats_.memory = arena_.stats();
  if (!block)
    throw Error(Status::kOutOfMemory, "no memory for a workspace of " + std::to_string(bytes) +
                                          " bytes; a smaller workspace_limit may help");
  return block;
}

// Nothing that runs on several workers may throw, so nothing there allocates: a worker that left
// would keep the others waiting at a barrier.
void HostSession::run_chunks(const PackedBatch& batch, const Outputs& outputs,
                             const Schedule& schedule, const WorkspaceLayout& layout,
                             std::byte* block) {
  const bool alone = schedule.mode == Stream::Mode::kAlone;
  const std::function<bool()> stop_requested = [this] { return stop_.requested(); };
  std::vector<Profile> profiles(static_cast<size_t>(schedule.workers));
  std::atomic<const char*> culprit{nullptr};

  const auto run_observed = [&](const Chunk& chunk, int worker, Operations& operations) {
    std::byte* lane = layout.lane(block, alone ? worker : 0);
    // What all do together is one call, and only the first worker looks at red zones.
    const bool first = alone || worker == 0;
    ProfileObserver profiler(profiles[static_cast<size_t>(worker)], first);
    RedZoneObserver guard(block, layout.total_bytes, culprit);
    ObservedOperations profiled(operations, profiler);
    Operations& measured = profiling_ ? profiled : operations;
    ObservedOperations guarded(measured, guard);
    run_chunk(batch, outputs, chunk, lane, poison_ && first ? guarded : measured);
  };

  if (alone) {
    if (poison_) poison(block, layout.lanes_offset);
    std::atomic<size_t> next{0};
    stream_->run(schedule.mode, schedule.workers, block, layout.scratch_bytes, stop_requested,
                 [&](int worker, Operations& operations) {
                   for (size_t i;
                        !stop_.requested() && (i = next.fetch_add(1)) < schedule.chunks.size();) {
                     if (poison_) poison(layout.lane(block, worker), layout.lane_bytes);
                     run_observed(schedule.chunks[i], worker, operations);
                   }
                 });
  } else {
    for (const Chunk& chunk : schedule.chunks) {
      if (stop_.requested()) break;
      if (poison_) poison(block, layout.total_bytes);
      stream_->run(
          schedule.mode, schedule.workers, block, layout.scratch_bytes, stop_requested,
          [&](int worker, Operations& operations) { run_observed(chunk, worker, operations); });
    }
  }
  for (const Profile& profile : profiles) profile_.add(profile);
  if (culprit.load())
    throw Error(Status::kInternal,
                std::string("operation ") + culprit.load() + " wrote behind its output");
}

void HostSession::run_chunk(const PackedBatch& batch, const Outputs& outputs, const Chunk& chunk,
                            std::byte* lane, Operations& operations) const {
  const int32_t first_token = batch.sequence_starts[chunk.first];
  const int64_t num_sequences = chunk.end - chunk.first;
  Sequences sequences;
  sequences.num_sequences = chunk.end - chunk.first;
  sequences.sequence_starts = batch.sequence_starts + chunk.first;
  sequences.token_ids = batch.token_ids ? batch.token_ids + first_token : nullptr;
  sequences.token_types = batch.token_types ? batch.token_types + first_token : nullptr;
  sequences.pooling_starts = batch.pooling_starts ? batch.pooling_starts + chunk.first : nullptr;

  const ChosenRange chosen = chosen_between(batch.chosen_tokens, batch.num_chosen, first_token,
                                            batch.sequence_starts[chunk.end]);
  sequences.num_chosen = chosen.count;
  sequences.chosen_tokens = batch.chosen_tokens ? batch.chosen_tokens + chosen.first : nullptr;

  const Activations x =
      plan_.activations().place(lane, chunk.num_tokens, num_sequences, chosen.count);
  const RowCounts firsts{first_token, chunk.first, chosen.first};
  const RowCounts counts{chunk.num_tokens, num_sequences, chosen.count};
  // The chunk's rows of an output, in the caller's array.
  const auto result_of = [&](OutputKind kind) {
    const int64_t columns = columns_of(kind, model_->architecture());
    const RowsOf of = rows_of(kind);
    Matrix rows{static_cast<float*>(outputs[kind].data) + firsts.of(of) * columns, counts.of(of),
                columns, columns};
    rows.rows_of = of;
    return rows;
  };
  run_model(*model_, sequences, x, outputs, result_of, operations);
}

void HostSession::reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length) {
  uint64_t bytes = workspace_bytes(num_tokens, num_sequences, max_length);
  if (limit_ > 0) bytes = std::min(bytes, plan_.usable_limit());
  const bool grown = arena_.reserve(bytes);
  stats_.memory = arena_.stats();
  if (!grown)
    throw Error(Status::kOutOfMemory,
                "no memory to reserve a workspace of " + std::to_string(bytes) + " bytes");
}

}  // namespace vlt
