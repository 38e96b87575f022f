// One caller's stream of work on a model: plans batches, owns the workspace, counts. A session on
// the host is in host_session.h, one on a device in device_session.h.
#pragma once

#include <cstdint>
#include <memory>

#include "allocator/arena.h"
#include "encoder/outputs.h"
#include "encoder/packed_batch.h"
#include "encoder/profile.h"
#include "encoder/stop_signal.h"
#include "model/model.h"

namespace vlt {

struct SessionOptions {
  int num_workers = 1;           // on a device: threads that bring results to the host
  uint64_t workspace_limit = 0;  // bytes; 0: none
  bool profile = false;
  AllocationCallbacks callbacks;  // where the host's workspace comes from; none: the system
  bool record = true;             // on a device: keep recordings of small batches and replay them
};

struct SessionStats {
  ArenaStats memory;
  uint64_t planned_peak_bytes = 0;
  uint64_t runs = 0;
  uint64_t parts = 0;
  double planning_seconds = 0;
  uint64_t recordings = 0;
};

// One thread at a time, except request_stop().
class Session {
 public:
  virtual ~Session() = default;

  // Throws vlt::Error; usable afterwards unless it says kDeviceError.
  virtual void run(const PackedBatch& batch, const Outputs& outputs) = 0;
  // Waits for the runs that returned before they were done.
  virtual void synchronize() {}

  virtual uint64_t workspace_bytes(int64_t num_tokens, int32_t num_sequences,
                                   int32_t max_length) const = 0;
  // Does beforehand what is slow in the first run of a batch up to this size.
  virtual void reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length) = 0;

  // Ends the run in progress early, from any thread; without one it does nothing.
  void request_stop() { stop_.request(); }

  const Model& model() const { return *model_; }
  const SessionStats& stats() const { return stats_; }
  const Profile& profile() const { return profile_; }
  virtual int num_workers() const { return 1; }

 protected:
  explicit Session(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  const std::shared_ptr<const Model> model_;
  SessionStats stats_;
  Profile profile_;
  StopSignal stop_;
};

std::unique_ptr<Session> create_session(std::shared_ptr<const Model> model,
                                        const SessionOptions& options);

// VLT_POISON_WORKSPACE=1: workspaces are filled with NaN before each use.
bool poison_requested();

}  // namespace vlt
