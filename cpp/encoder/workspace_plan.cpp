#include "encoder/workspace_plan.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace vlt {

WorkspacePlan::WorkspacePlan(const Model& model, int num_workers, uint64_t limit,
                             uint64_t granularity, uint64_t red_zone_bytes)
    : architecture_(model.architecture()),
      backend_(*model.backend().as_host()),
      num_workers_(num_workers),
      limit_(limit),
      granularity_(granularity),
      activations_(architecture_, backend_, red_zone_bytes) {}

uint64_t WorkspacePlan::scratch_bytes(int64_t longest) const {
  return backend_.scratch_bytes(longest, architecture_.head_size, architecture_.num_relative_rows);
}

uint64_t WorkspacePlan::whole(uint64_t bytes) const {
  return (bytes + granularity_ - 1) / granularity_ * granularity_;
}

// What chunks may hold so that `workers` workers stay within the limit: as many sequences as leave
// room for the longest one, as many tokens as leave room for those. Zeros: no way.
ChunkLimits WorkspacePlan::chunk_limits(int32_t num_sequences, int32_t longest, int workers) const {
  ChunkLimits limits{kAloneTokens, kTogetherTokensPerWorker * workers,
                     std::clamp(num_sequences, 1, kMaxChunkSequences)};
  if (limit_ == 0) return limits;
  const uint64_t scratch = static_cast<uint64_t>(workers) * scratch_bytes(longest);
  if (usable_limit() < scratch) return {};
  const uint64_t left = usable_limit() - scratch;
  const int64_t needed = std::max(longest, 1);
  while (limits.sequences > 1 && activations_.most_tokens(left, limits.sequences) < needed)
    limits.sequences /= 2;
  const auto fit = [&](int64_t wanted, uint64_t bytes) -> int64_t {
    const int64_t most = activations_.most_tokens(bytes, limits.sequences);
    return most < needed ? 0 : std::min(wanted, most);
  };
  limits.alone_tokens = fit(limits.alone_tokens, left / static_cast<uint64_t>(workers));
  limits.together_tokens = fit(limits.together_tokens, left);
  return limits;
}

Schedule WorkspacePlan::schedule(const int32_t* sequence_starts, int32_t num_sequences,
                                 int32_t longest) const {
  // Fewer workers need less scratch: where the limit is tight, one has to do.
  for (const int workers : {num_workers_, 1}) {
    const ChunkLimits limits = chunk_limits(num_sequences, longest, workers);
    if (limits.alone_tokens > 0 || (limits.together_tokens > 0 && workers > 1))
      return make_schedule(sequence_starts, num_sequences, architecture_, workers, limits);
  }
  const uint64_t needed =
      whole(scratch_bytes(longest) + activations_.bytes(std::max(longest, 1), 1));
  throw Error(Status::kOutOfMemory, "a sequence of " + std::to_string(longest) + " tokens needs " +
                                        std::to_string(needed) +
                                        " bytes of workspace; the limit is " +
                                        std::to_string(limit_));
}

WorkspaceLayout WorkspacePlan::layout(const Schedule& schedule, int32_t longest) const {
  int64_t tokens = 0, sequences = 0;
  for (const Chunk& chunk : schedule.chunks) {
    tokens = std::max(tokens, chunk.num_tokens);
    sequences = std::max<int64_t>(sequences, chunk.end - chunk.first);
  }
  const auto workers = static_cast<uint64_t>(schedule.workers);
  const uint64_t lanes = schedule.mode == Stream::Mode::kAlone ? workers : 1;
  WorkspaceLayout layout;
  layout.scratch_bytes = scratch_bytes(longest);
  layout.lane_bytes = activations_.bytes(tokens, sequences);
  layout.lanes_offset = workers * layout.scratch_bytes;
  layout.total_bytes = whole(layout.lanes_offset + lanes * layout.lane_bytes);
  return layout;
}

uint64_t WorkspacePlan::bytes(int64_t num_tokens, int32_t num_sequences, int32_t max_length) const {
  const int64_t longest =
      std::min({int64_t{max_length}, num_tokens, int64_t{architecture_.max_length()}});
  const int64_t sequences = std::min(num_sequences, kMaxChunkSequences);
  const auto lane = [&](int64_t chunk_tokens) {
    return activations_.bytes(std::min(num_tokens, std::max(chunk_tokens, longest)), sequences);
  };
  const auto lanes = static_cast<uint64_t>(std::min(num_workers_, num_sequences));
  const uint64_t alone = lanes * lane(kAloneTokens);
  const uint64_t together = num_workers_ > 1 ? lane(kTogetherTokensPerWorker * num_workers_) : 0;
  return whole(static_cast<uint64_t>(num_workers_) * scratch_bytes(longest) +
               std::max(alone, together));
}

}  // namespace vlt
