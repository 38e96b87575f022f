// What a device with memory of its own offers besides the operations of backend.h: that memory, the
// way to it, and work that is recorded once and replayed.
//
// Calls put work into one stream, the session's own or a caller's, and return at once unless they
// say otherwise. Failures throw DeviceFailure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/device_failure.h"

namespace vlt {

// Part of a batch as the caller passed it. Starts need not begin at 0 where they are on the host.
struct BatchArrays {
  int64_t num_tokens = 0;
  int32_t num_sequences = 0;
  const int32_t* token_ids = nullptr;
  const int32_t* token_types = nullptr;      // or null
  const int32_t* sequence_starts = nullptr;  // [S + 1]
  const int32_t* pooling_starts = nullptr;   // or null
  bool tokens_on_device = false;             // ids and types
  bool sequences_on_device = false;          // starts, pooling starts and chosen tokens
  // [C], ascending: tokens of the whole batch, as the starts are.
  const int32_t* chosen_tokens = nullptr;
  int32_t num_chosen = 0;
};

// Room for a batch at the head of a workspace, and for its results. What a recording has baked in
// is the block and the three sizes; everything else may differ at each replay.
struct BatchRoom {
  std::byte* block = nullptr;
  int64_t max_tokens = 0;
  int64_t max_sequences = 0;
  int64_t max_chosen = 0;
};

// What the model says of every batch.
struct BatchLimits {
  int32_t max_length = 0;  // of a sequence
  int32_t num_heads = 0;
  int32_t head_size = 0;
  bool relative = false;  // attention will be given RelativeWeights
};

// Device memory for results; null for what is not wanted.
struct DeviceResults {
  void* hidden = nullptr;
  void* embedding = nullptr;
};

// A rule of vlt.h that arrays on the device broke, found while the batch ran.
struct InputProblem {
  enum class Kind {
    kNone,
    kStartsNotAscending,
    kFirstStartNotZero,
    kLastStartNotTokens,
    kTooLong,
    kTokenId,
    kTokenType,
    kPoolingStart,
    kChosenToken
  };
  Kind kind = Kind::kNone;
  int64_t index = 0;  // of a sequence; of a token for ids and types; among the chosen tokens
  int64_t value = 0;
};

class DeviceStream {
 public:
  virtual ~DeviceStream() = default;

  // Device memory in the terms of an allocator's source: addresses first, memory later. Taking
  // memory away waits until the stream is idle.
  virtual uint64_t granularity() const = 0;
  virtual std::byte* reserve(uint64_t bytes) = 0;  // null: no addresses left
  virtual bool commit(std::byte* base, uint64_t from, uint64_t to) = 0;
  virtual bool decommit(std::byte* base, uint64_t from, uint64_t to) = 0;
  virtual void unreserve(std::byte* base, uint64_t bytes) noexcept = 0;

  // Bytes of workspace that a batch itself takes: its arrays and the plan of its attention.
  virtual uint64_t batch_bytes(int64_t max_tokens, int64_t max_sequences,
                               int64_t max_chosen) const = 0;

  virtual void upload(const BatchRoom& room, const BatchArrays& arrays,
                      const DeviceResults& results) = 0;

  // Plans the batch that was uploaded last; the operations then work on it. Valid until the next
  // call.
  virtual Operations& begin(const BatchRoom& room, const BatchLimits& limits) = 0;

  // Where the device finds the address of a result: a Matrix with `indirect` and this as data.
  virtual void* hidden_slot(const BatchRoom& room) const = 0;
  virtual void* embedding_slot(const BatchRoom& room) const = 0;

  // Runs the recording of this key; without one, records what `body` puts into the stream first.
  virtual void replay(uint64_t key, const std::function<void()>& body) = 0;
  // For recordings without running them.
  virtual void record(uint64_t key, const std::function<void()>& body) = 0;
  virtual void forget_recordings() = 0;
  virtual size_t num_recordings() const = 0;

  // Work goes into a caller's stream from here on; null: into the session's own. What either side
  // puts in later comes after what is in already. The caller's stream must live until finish().
  // False, and nothing changed: the caller is recording it.
  virtual bool enter(void* callers_stream) = 0;
  // The run is in. The stream it went into is not touched any more.
  virtual void finish() = 0;

  // Copies to the host; returns when it is there.
  virtual void download(void* host, const void* device, uint64_t bytes) = 0;
  virtual void copy(void* to, const void* from, uint64_t bytes) = 0;  // within the device
  virtual void fill(void* device, int byte, uint64_t bytes) = 0;
  virtual void synchronize() = 0;
  // Whether a batch has had a problem so far; and which, once the stream is idle.
  virtual bool has_problem() const = 0;
  virtual InputProblem take_problem() = 0;

  // Times between marks, in seconds, once the stream is idle; clears them.
  virtual void mark() = 0;
  virtual std::vector<double> take_times() = 0;
};

class DeviceBackend : public Backend {
 public:
  const DeviceBackend* as_device() const final { return this; }
  virtual int device_index() const = 0;

  // Memory for a caller's results. Null: the device has none left. Work in progress may still use
  // what is released. `copy` waits; either side may be on the host.
  virtual void* allocate(uint64_t bytes) const = 0;
  virtual void release(void* memory) const = 0;
  virtual void copy(void* to, const void* from, uint64_t bytes) const = 0;

  // max_threads: that may bring results to the host at once, the caller's among them.
  virtual std::unique_ptr<DeviceStream> create_stream(int max_threads) const = 0;
};

}  // namespace vlt
