#include "encoder/device_plan.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/error.h"

namespace vlt {
namespace {

constexpr uint64_t kAlignment = 256;
constexpr int64_t kSmallestBucket = 64;
constexpr int64_t kTileRows = 128;
constexpr int64_t kFineTokens = 8192;

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Eight buckets an octave: at most an eighth of the room is unused. Finer ones where passes are
// recorded: a product's tile is chosen for the room, and a row of tiles (128 rows) more or less may
// be the one that begins another wave over the multiprocessors.
int64_t bucket(int64_t count) {
  if (count <= kSmallestBucket) return kSmallestBucket;
  int64_t step = int64_t{1} << (std::bit_width(static_cast<uint64_t>(count - 1)) - 4);
  if (count <= DevicePlan::kMaxRecordedTokens)
    step = std::min(step, count <= kFineTokens ? kTileRows : 2 * kTileRows);
  return (count + step - 1) / step * step;
}

}  // namespace

DevicePlan::DevicePlan(const Model& model, const DeviceStream& stream, uint64_t limit)
    : architecture_(model.architecture()),
      stream_(stream),
      limit_(limit),
      activations_(architecture_, model.backend(), 0) {}

Room DevicePlan::room(int64_t num_tokens, int64_t num_sequences, int64_t num_chosen) {
  Room room;
  room.tokens = bucket(num_tokens);
  // Only empty sequences can make sequences outnumber tokens; no recording waits for those, nor for
  // chosen tokens.
  room.recordable =
      num_tokens <= kMaxRecordedTokens && num_sequences <= room.tokens && num_chosen == 0;
  room.sequences = room.recordable ? room.tokens : bucket(num_sequences);
  room.chosen = num_chosen;
  return room;
}

uint64_t DevicePlan::staged_bytes(OutputKind kind, const Room& room) const {
  return aligned(static_cast<uint64_t>(room.rows(rows_of(kind))) *
                 static_cast<uint64_t>(columns_of(kind, architecture_)) * sizeof(float));
}

DeviceLayout DevicePlan::layout(const Room& room, const StagedResults& staged) const {
  DeviceLayout layout;
  layout.activations = aligned(stream_.batch_bytes(room.tokens, room.sequences, room.chosen));
  layout.total_bytes =
      layout.activations + aligned(activations_.bytes(room.tokens, room.sequences));
  for (const OutputKind kind : kOutputKinds) {
    const auto index = static_cast<size_t>(kind);
    layout.results[index] = layout.total_bytes;
    if (staged[index]) layout.total_bytes += staged_bytes(kind, room);
  }
  return layout;
}

bool DevicePlan::fits(const Room& room, const StagedResults& staged) const {
  if (limit_ == 0) return true;
  const uint64_t step = stream_.granularity();
  return layout(room, staged).total_bytes <= limit_ / step * step;
}

bool DevicePlan::is_one_part(int64_t num_tokens, int32_t num_sequences, int32_t num_chosen,
                             const StagedResults& staged) const {
  const Room needed = room(num_tokens, num_sequences, num_chosen);
  for (const OutputKind kind : {OutputKind::kVocabulary, OutputKind::kSparse})
    if (staged[static_cast<size_t>(kind)] && num_sequences > 1 &&
        staged_bytes(kind, needed) > kMostStagedBytes)
      return false;
  return num_tokens <= kMaxTokens && num_sequences <= kMaxSequences && fits(needed, staged);
}

std::vector<Part> DevicePlan::parts(const int32_t* starts, int32_t num_sequences,
                                    int32_t num_chosen, const StagedResults& staged) const {
  // How many of the chosen tokens a part has is not looked up: no more than tokens.
  const auto most_chosen = [&](int64_t tokens) {
    return static_cast<int32_t>(std::min<int64_t>(num_chosen, tokens));
  };
  std::vector<Part> parts;
  for (int32_t first = 0; first < num_sequences || parts.empty();) {
    const auto one_part = [&](int32_t end) {
      const int64_t tokens = int64_t{starts[end]} - starts[first];
      return is_one_part(tokens, end - first, most_chosen(tokens), staged);
    };
    int32_t end = num_sequences;
    if (!one_part(end)) {
      // The last end that fits; what a part needs never falls as it grows.
      int32_t good = first, bad = num_sequences;
      while (bad - good > 1) {
        const int32_t middle = good + (bad - good) / 2;
        (one_part(middle) ? good : bad) = middle;
      }
      end = good;
    }
    if (end == first && num_sequences > 0) {
      // A single sequence may be longer than a part usually is, but not larger than the limit.
      end = first + 1;
      const int64_t length = int64_t{starts[end]} - starts[first];
      const Room needed = room(length, 1, most_chosen(length));
      if (!fits(needed, staged))
        throw Error(Status::kOutOfMemory,
                    "a sequence of " + std::to_string(length) + " tokens needs " +
                        std::to_string(layout(needed, staged).total_bytes) +
                        " bytes of workspace; the limit is " + std::to_string(limit_));
    }
    parts.push_back({first, end, int64_t{starts[end]} - starts[first]});
    first = end;
    if (num_sequences == 0) break;
  }
  return parts;
}

uint64_t DevicePlan::bytes(int64_t num_tokens, int32_t num_sequences) const {
  const int64_t tokens =
      std::min(num_tokens, std::max(kMaxTokens, int64_t{architecture_.max_length()}));
  const int64_t sequences = std::min<int64_t>(num_sequences, kMaxSequences);
  // A recording has room for as many sequences as tokens, which more tokens may no longer have.
  const Room largest_recorded = room(std::min(tokens, kMaxRecordedTokens), 0, 0);
  StagedResults all{};
  for (const OutputKind kind : kRecordedOutputs)
    all[static_cast<size_t>(kind)] = columns_of(kind, architecture_) > 0;
  const uint64_t bytes = std::max(layout(room(tokens, sequences, 0), all).total_bytes,
                                  layout(largest_recorded, all).total_bytes);
  const uint64_t step = stream_.granularity();
  return (bytes + step - 1) / step * step;
}

}  // namespace vlt
