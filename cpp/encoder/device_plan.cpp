#include "encoder/device_plan.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/error.h"

namespace vlt {
namespace {

constexpr uint64_t kAlignment = 256;
constexpr int64_t kSmallestBucket = 64;

uint64_t aligned(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Eight buckets an octave: at most an eighth of the room is unused.
int64_t bucket(int64_t count) {
  if (count <= kSmallestBucket) return kSmallestBucket;
  const int64_t step = int64_t{1} << (std::bit_width(static_cast<uint64_t>(count - 1)) - 4);
  return (count + step - 1) / step * step;
}

}  // namespace

DevicePlan::DevicePlan(const Model& model, const DeviceStream& stream, uint64_t limit)
    : architecture_(model.architecture()),
      stream_(stream),
      limit_(limit),
      activations_(architecture_, model.backend(), 0) {}

Room DevicePlan::room(int64_t num_tokens, int64_t num_sequences) {
  Room room;
  room.tokens = bucket(num_tokens);
  // Only empty sequences can make sequences outnumber tokens; no recording waits for those.
  room.recordable = num_tokens <= kMaxRecordedTokens && num_sequences <= room.tokens;
  room.sequences = room.recordable ? room.tokens : bucket(num_sequences);
  return room;
}

DeviceLayout DevicePlan::layout(const Room& room, StagedResults staged) const {
  const auto floats = [](int64_t rows, int64_t cols) {
    return aligned(static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols) * sizeof(float));
  };
  DeviceLayout layout;
  layout.activations = aligned(stream_.batch_bytes(room.tokens, room.sequences, 0));
  layout.hidden = layout.activations + aligned(activations_.bytes(room.tokens, room.sequences));
  layout.embedding =
      layout.hidden + (staged.hidden ? floats(room.tokens, architecture_.hidden_size) : 0);
  layout.total_bytes =
      layout.embedding +
      (staged.embedding ? floats(room.sequences, architecture_.embedding_size) : 0);
  return layout;
}

bool DevicePlan::fits(int64_t num_tokens, int64_t num_sequences, StagedResults staged) const {
  if (limit_ == 0) return true;
  const uint64_t step = stream_.granularity();
  return layout(room(num_tokens, num_sequences), staged).total_bytes <= limit_ / step * step;
}

bool DevicePlan::is_one_part(int64_t num_tokens, int32_t num_sequences,
                             StagedResults staged) const {
  return num_tokens <= kMaxTokens && num_sequences <= kMaxSequences &&
         fits(num_tokens, num_sequences, staged);
}

std::vector<Part> DevicePlan::parts(const int32_t* starts, int32_t num_sequences,
                                    StagedResults staged) const {
  std::vector<Part> parts;
  for (int32_t first = 0; first < num_sequences || parts.empty();) {
    const auto one_part = [&](int32_t end) {
      return is_one_part(int64_t{starts[end]} - starts[first], end - first, staged);
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
      if (!fits(length, 1, staged))
        throw Error(Status::kOutOfMemory,
                    "a sequence of " + std::to_string(length) + " tokens needs " +
                        std::to_string(layout(room(length, 1), staged).total_bytes) +
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
  const Room largest_recorded = room(std::min(tokens, kMaxRecordedTokens), 0);
  const StagedResults all{true, architecture_.embedding_size > 0};
  const uint64_t bytes = std::max(layout(room(tokens, sequences), all).total_bytes,
                                  layout(largest_recorded, all).total_bytes);
  const uint64_t step = stream_.granularity();
  return (bytes + step - 1) / step * step;
}

}  // namespace vlt
