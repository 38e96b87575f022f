#include "encoder/packed_batch.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace vlt {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(Status::kInvalidArgument, message);
}

void check_starts(const PackedBatch& batch, const Architecture& architecture) {
  const int32_t* starts = batch.sequence_starts;
  if (starts[0] != 0)
    refuse("sequence_starts[0] is " + std::to_string(starts[0]) + "; it must be 0");
  for (int32_t s = 0; s < batch.num_sequences; ++s) {
    const int64_t length = int64_t{starts[s + 1]} - starts[s];
    if (length < 0)
      refuse("sequence_starts[" + std::to_string(s + 1) + "] is " + std::to_string(starts[s + 1]) +
             ", less than the " + std::to_string(starts[s]) + " before it; starts must ascend");
    if (length > architecture.max_length())
      refuse("sequence " + std::to_string(s) + " has " + std::to_string(length) +
             " tokens; the model's longest is " + std::to_string(architecture.max_length()));
  }
  if (starts[batch.num_sequences] != batch.num_tokens)
    refuse("num_tokens is " + std::to_string(batch.num_tokens) + " but sequence_starts ends at " +
           std::to_string(starts[batch.num_sequences]) + "; they must be equal");
}

// Every value in 0 … limit - 1; the comparison as unsigned covers both ends and vectorises.
void check_values(const PackedBatch& batch, const int32_t* values, int32_t limit, const char* what,
                  const char* limit_name) {
  uint32_t largest = 0;
  for (int64_t t = 0; t < batch.num_tokens; ++t)
    largest = std::max(largest, static_cast<uint32_t>(values[t]));
  if (batch.num_tokens == 0 || largest < static_cast<uint32_t>(limit)) return;

  const int32_t* bad = std::find_if(values, values + batch.num_tokens, [&](int32_t value) {
    return static_cast<uint32_t>(value) >= static_cast<uint32_t>(limit);
  });
  const int32_t* starts = batch.sequence_starts;
  const auto position = static_cast<int32_t>(bad - values);
  const auto sequence = static_cast<int32_t>(
      std::upper_bound(starts, starts + batch.num_sequences + 1, position) - starts - 1);
  refuse(std::string(what) + " " + std::to_string(*bad) + " at position " +
         std::to_string(position - starts[sequence]) + " of sequence " + std::to_string(sequence) +
         " is out of range; it must be 0 … " + std::to_string(limit - 1) + " (" + limit_name +
         " is " + std::to_string(limit) + ")");
}

void check_chosen(const PackedBatch& batch) {
  if (batch.num_chosen < 0)
    refuse("num_chosen is " + std::to_string(batch.num_chosen) + "; it must be 0 or more");
  if (batch.num_chosen > 0 && !batch.chosen_tokens)
    refuse("chosen_tokens is NULL but num_chosen is " + std::to_string(batch.num_chosen));
  for (int32_t c = 0; c < batch.num_chosen; ++c) {
    const int32_t token = batch.chosen_tokens[c];
    const int32_t least = c == 0 ? 0 : batch.chosen_tokens[c - 1] + 1;
    if (token < least || token >= batch.num_tokens)
      refuse("chosen_tokens[" + std::to_string(c) + "] is " + std::to_string(token) +
             "; chosen tokens must ascend within 0 … " + std::to_string(batch.num_tokens - 1));
  }
}

}  // namespace

ChosenRange chosen_between(const int32_t* chosen, int32_t num_chosen, int64_t begin, int64_t end) {
  if (num_chosen == 0) return {};
  const int32_t* first = std::lower_bound(chosen, chosen + num_chosen, begin);
  const int32_t* last = std::lower_bound(first, chosen + num_chosen, end);
  return {static_cast<int32_t>(first - chosen), static_cast<int32_t>(last - first)};
}

void check_sizes(const PackedBatch& batch) {
  if (batch.num_sequences < 0)
    refuse("num_sequences is " + std::to_string(batch.num_sequences) + "; it must be 0 or more");
  if (batch.num_tokens < 0 || batch.num_tokens > INT32_MAX)
    refuse("num_tokens is " + std::to_string(batch.num_tokens) + "; it must be 0 … 2147483647");
  if (!batch.sequence_starts)
    refuse("sequence_starts is NULL; it must hold num_sequences + 1 entries");
  if (batch.num_tokens > 0 && !batch.token_ids) refuse("token_ids is NULL but num_tokens is not 0");
  check_chosen(batch);
}

void check_sequences(const PackedBatch& batch, const Architecture& architecture) {
  check_starts(batch, architecture);
  if (batch.pooling_starts)
    for (int32_t s = 0; s < batch.num_sequences; ++s) {
      const int32_t length = batch.sequence_starts[s + 1] - batch.sequence_starts[s];
      if (batch.pooling_starts[s] < 0 || batch.pooling_starts[s] > length)
        refuse("pooling_starts[" + std::to_string(s) + "] is " +
               std::to_string(batch.pooling_starts[s]) + "; sequence " + std::to_string(s) +
               " has " + std::to_string(length) + " tokens, so it must be 0 … " +
               std::to_string(length));
    }
}

void check_batch(const PackedBatch& batch, const Architecture& architecture) {
  check_sizes(batch);
  check_sequences(batch, architecture);
  check_values(batch, batch.token_ids, architecture.vocab_size, "token id", "vocab_size");
  if (batch.token_types)
    check_values(batch, batch.token_types, std::max(architecture.num_token_types, 1), "token type",
                 "the number of token types");
}

}  // namespace vlt
