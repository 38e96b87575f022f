#include "encoder/device_session.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "encoder/heads.h"

namespace vlt {
namespace {

// Whether the operation that makes an output finds the caller's array on the device by itself. The
// others take an address when they are recorded.
bool finds_its_array(OutputKind kind, const Architecture& architecture) {
  return kind == OutputKind::kHidden ||
         (kind == OutputKind::kEmbedding && !architecture.head(HeadKind::kEmbedding).has_dense());
}

StagedResults staged_results(const Model& model, const Outputs& outputs) {
  StagedResults staged{};
  for (const OutputKind kind : kOutputKinds)
    staged[static_cast<size_t>(kind)] =
        outputs.wants(kind) &&
        !(outputs[kind].on_device && finds_its_array(kind, model.architecture()));
  return staged;
}

bool can_be_recorded(const Outputs& outputs) {
  return !outputs.wants(OutputKind::kVocabulary) && !outputs.wants(OutputKind::kSparse);
}

// All that a recording bakes in besides the workspace's address.
uint64_t recording_key(const Room& room, const StagedResults& staged, const Outputs& outputs) {
  uint64_t key = static_cast<uint64_t>(room.tokens);
  const auto append = [&key](bool flag) { key = key << 1 | (flag ? 1 : 0); };
  for (const OutputKind kind : kRecordedOutputs) {
    append(outputs.wants(kind));
    append(staged[static_cast<size_t>(kind)]);
  }
  append(outputs[OutputKind::kHidden].dtype == DType::kFloat32);
  return key;
}

std::byte* advanced(void* base, int64_t rows, int64_t cols, DType dtype) {
  return static_cast<std::byte*>(base) + rows * cols * int64_t{element_bytes(dtype)};
}

std::string describe(const InputProblem& problem, const Architecture& a) {
  const std::string index = std::to_string(problem.index), value = std::to_string(problem.value);
  const auto range = [&](const char* what, int64_t limit) {
    return std::string(what) + " " + value + " at position " + index +
           " of the batch is out of range; it must be 0 … " + std::to_string(limit - 1);
  };
  switch (problem.kind) {
    case InputProblem::Kind::kStartsNotAscending:
      return "sequence_starts[" + std::to_string(problem.index + 1) + "] is " + value +
             ", less than the start before it; starts must ascend";
    case InputProblem::Kind::kFirstStartNotZero:
      return "sequence_starts[0] is " + value + "; it must be 0";
    case InputProblem::Kind::kLastStartNotTokens:
      return "sequence_starts ends at " + value + ", which is not num_tokens; they must be equal";
    case InputProblem::Kind::kTooLong:
      return "sequence " + index + " has " + value + " tokens; the model's longest is " +
             std::to_string(a.max_length());
    case InputProblem::Kind::kTokenId:
      return range("token id", a.vocab_size);
    case InputProblem::Kind::kTokenType:
      return range("token type", std::max(a.num_token_types, 1));
    case InputProblem::Kind::kPoolingStart:
      return "pooling_starts[" + index + "] is " + value +
             "; it must be 0 … the length of the sequence";
    case InputProblem::Kind::kChosenToken:
      return "chosen token " + index + " is " + value +
             "; chosen tokens must be tokens of the batch, each behind the one before";
    case InputProblem::Kind::kNone:
      break;
  }
  return "no problem";
}

// Names operations as they are put into the stream; their times follow once it is idle.
class MarkingObserver final : public Observer {
 public:
  explicit MarkingObserver(DeviceStream& stream) : stream_(stream) {}
  void before(const Operation&) override { stream_.mark(); }
  void after(const Operation& operation) override {
    stream_.mark();
    rows_.push_back({operation.name, 1, 0, operation.flops});
  }
  // Waits for the stream.
  void add_to(Profile& profile) {
    const std::vector<double> times = stream_.take_times();
    for (size_t i = 0; i < rows_.size(); ++i) {
      rows_[i].seconds = times[2 * i];
      profile.add(rows_[i]);
    }
  }

 private:
  DeviceStream& stream_;
  std::vector<ProfileRow> rows_;
};

}  // namespace

DeviceSession::DeviceSession(std::shared_ptr<const Model> model, const SessionOptions& options)
    : Session(std::move(model)),
      profiling_(options.profile),
      poison_(poison_requested()),
      recording_(options.record && !options.profile),
      stream_(model_->backend().as_device()->create_stream(options.num_workers)),
      memory_source_(*stream_),
      limit_(options.workspace_limit),
      plan_(*model_, *stream_, limit_),
      arena_(memory_source_, limit_) {}

DeviceSession::~DeviceSession() {
  try {
    stream_->synchronize();  // work in flight reads the workspace
  } catch (const DeviceFailure&) {
    // it no longer does
  }
}

void DeviceSession::run(const PackedBatch& batch, const Outputs& outputs) {
  if (batch.on_device) {
    check_sizes(batch);
  } else {
    check_batch(batch, model_->architecture());
  }
  const StopSignal::Run run(stop_);
  if (stream_->has_problem()) synchronize();  // of a run that returned before it was done
  const bool stays_on_device =
      std::all_of(outputs.arrays.begin(), outputs.arrays.end(),
                  [](const OutputArray& array) { return !array.data || array.on_device; });
  const bool waits = !batch.callers_stream || !stays_on_device;
  if (!stream_->enter(batch.callers_stream))
    throw Error(Status::kUnsupported,
                "the stream is being captured into a CUDA graph; run outside the capture, since "
                "vlt replays graphs of its own");
  try {
    run_parts(batch, outputs);
  } catch (...) {
    abandon(waits);
    throw;
  }
  stream_->finish();
  ++stats_.runs;
  stats_.recordings = stream_->num_recordings();
  if (waits) synchronize();
  if (stop_.requested()) throw Error(Status::kCancelled, "the run was cancelled");
}

// Parts of the batch may be in flight. What the caller may take back when the call ends must not be
// in use any more, nor may a later run be blamed for this one.
void DeviceSession::abandon(bool waits) {
  try {
    stream_->finish();
    if (!waits) return;
    stream_->synchronize();
    stream_->take_problem();
  } catch (const DeviceFailure&) {
    // the first failure says more
  }
}

void DeviceSession::synchronize() {
  stream_->synchronize();
  const InputProblem problem = stream_->take_problem();
  if (problem.kind != InputProblem::Kind::kNone)
    throw Error(Status::kInvalidArgument, describe(problem, model_->architecture()));
}

void DeviceSession::run_parts(const PackedBatch& batch, const Outputs& outputs) {
  const auto start = std::chrono::steady_clock::now();
  const StagedResults staged = staged_results(*model_, outputs);
  BatchArrays arrays{batch.num_tokens,  batch.num_sequences,   batch.token_ids,
                     batch.token_types, batch.sequence_starts, batch.pooling_starts,
                     batch.on_device,   batch.on_device};
  if (outputs.wants(OutputKind::kVocabulary)) {
    arrays.chosen_tokens = batch.chosen_tokens;
    arrays.num_chosen = batch.num_chosen;
  }
  std::vector<int32_t> starts, pooling;  // copies, where a batch on the device needs several parts
  std::vector<Part> parts{{0, batch.num_sequences, batch.num_tokens}};
  if (!plan_.is_one_part(batch.num_tokens, batch.num_sequences, arrays.num_chosen, staged)) {
    const auto count = static_cast<size_t>(batch.num_sequences);
    if (batch.on_device) {
      starts.resize(count + 1);
      stream_->download(starts.data(), batch.sequence_starts, starts.size() * sizeof(int32_t));
      if (batch.pooling_starts) {
        pooling.resize(count);
        stream_->download(pooling.data(), batch.pooling_starts, count * sizeof(int32_t));
      }
      arrays.sequence_starts = starts.data();
      arrays.pooling_starts = pooling.empty() ? nullptr : pooling.data();
      arrays.sequences_on_device = false;
      PackedBatch copied{batch.num_tokens,
                         batch.num_sequences,
                         batch.token_ids,
                         starts.data(),
                         nullptr,
                         arrays.pooling_starts,
                         true};
      check_sequences(copied, model_->architecture());
    }
    parts = plan_.parts(arrays.sequence_starts, batch.num_sequences, arrays.num_chosen, staged);
  }
  stats_.planning_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  stats_.planned_peak_bytes = 0;
  for (const Part& part : parts) {
    if (stop_.requested()) break;
    run_part(arrays, part, outputs);
    ++stats_.parts;
  }
}

void DeviceSession::run_part(const BatchArrays& whole, const Part& part, const Outputs& outputs) {
  // A batch on the device is one part, unless its starts have been copied here.
  const int32_t first_token = whole.sequences_on_device ? 0 : whole.sequence_starts[part.first];
  BatchArrays arrays = whole;
  arrays.num_tokens = part.num_tokens;
  arrays.num_sequences = part.end - part.first;
  arrays.sequence_starts += part.first;
  if (arrays.token_ids) arrays.token_ids += first_token;
  if (arrays.token_types) arrays.token_types += first_token;
  if (arrays.pooling_starts) arrays.pooling_starts += part.first;

  const ChosenRange chosen = chosen_between(whole.chosen_tokens, whole.num_chosen, first_token,
                                            first_token + part.num_tokens);
  arrays.num_chosen = chosen.count;
  if (arrays.chosen_tokens) arrays.chosen_tokens += chosen.first;

  const Architecture& a = model_->architecture();
  const RowCounts firsts{first_token, part.first, chosen.first};
  Outputs mine = outputs;
  for (const OutputKind kind : kOutputKinds)
    if (mine.wants(kind))
      mine[kind].data = advanced(mine[kind].data, firsts.of(rows_of(kind)), columns_of(kind, a),
                                 mine[kind].dtype);

  const Room room = DevicePlan::room(arrays.num_tokens, arrays.num_sequences, arrays.num_chosen);
  const bool record = recording_ && room.recordable && can_be_recorded(outputs);
  Workspace workspace = acquire(room, mine);
  if (!record) {
    // Nothing is baked in, so the operations may know the true sizes.
    workspace.room.max_tokens = arrays.num_tokens;
    workspace.room.max_sequences = arrays.num_sequences;
  }
  const auto result = [&](OutputKind kind) { return workspace.results[static_cast<size_t>(kind)]; };
  stream_->upload(workspace.room, arrays,
                  {result(OutputKind::kHidden), result(OutputKind::kEmbedding)});
  if (record) {
    stream_->replay(recording_key(room, staged_results(*model_, mine), mine),
                    [&] { forward_part(workspace, {}, mine, nullptr); });
  } else if (profiling_) {
    MarkingObserver observer(*stream_);
    forward_part(workspace, arrays, mine, &observer);
    observer.add_to(profile_);
  } else {
    forward_part(workspace, arrays, mine, nullptr);
  }
  fetch(workspace, arrays, mine);
}

DeviceSession::Workspace DeviceSession::acquire(const Room& room, const Outputs& outputs) {
  const StagedResults staged = staged_results(*model_, outputs);
  const DeviceLayout layout = plan_.layout(room, staged);
  std::byte* block = arena_.acquire(layout.total_bytes);
  stats_.memory = arena_.stats();
  const uint64_t step = stream_->granularity();
  stats_.planned_peak_bytes =
      std::max(stats_.planned_peak_bytes, (layout.total_bytes + step - 1) / step * step);
  if (!block)
    throw Error(Status::kOutOfMemory, "no device memory for a workspace of " +
                                          std::to_string(layout.total_bytes) +
                                          " bytes; a smaller workspace_limit may help");
  if (block != recorded_block_) {
    stream_->forget_recordings();
    recorded_block_ = block;
  }
  if (poison_) stream_->fill(block, 0xff, layout.total_bytes);

  Workspace workspace;
  workspace.room = {block, room.tokens, room.sequences, room.chosen};
  workspace.activations = block + layout.activations;
  for (size_t i = 0; i < staged.size(); ++i)
    workspace.results[i] = staged[i] ? block + layout.results[i] : outputs.arrays[i].data;
  return workspace;
}

// An output's rows: where the operation finds them, or at their place in the workspace.
Matrix DeviceSession::result_of(OutputKind kind, const Workspace& workspace,
                                const Outputs& outputs) const {
  const Architecture& a = model_->architecture();
  const BatchRoom& room = workspace.room;
  const int64_t columns = columns_of(kind, a);
  const RowCounts most{room.max_tokens, room.max_sequences, room.max_chosen};
  Matrix rows{workspace.results[static_cast<size_t>(kind)], most.of(rows_of(kind)), columns,
              columns, outputs[kind].dtype};
  rows.rows_of = rows_of(kind);
  if (finds_its_array(kind, a)) {
    rows.data =
        kind == OutputKind::kHidden ? stream_->hidden_slot(room) : stream_->embedding_slot(room);
    rows.indirect = true;
  }
  return rows;
}

void DeviceSession::forward_part(const Workspace& workspace, const BatchArrays& arrays,
                                 const Outputs& outputs, Observer* observer) {
  const Architecture& a = model_->architecture();
  const BatchRoom& room = workspace.room;
  Operations& plain =
      stream_->begin(room, {a.max_length(), a.num_heads, a.head_size, a.has_relative()});
  std::optional<ObservedOperations> observed;
  if (observer) observed.emplace(plain, *observer);
  Operations& operations = observed ? *observed : plain;

  // The kernels know the batch; only the count of operations in a profile looks at this.
  Sequences sequences;
  if (!arrays.sequences_on_device) {
    sequences.sequence_starts = arrays.sequence_starts;
    sequences.num_sequences = arrays.num_sequences;
  }
  const Activations x = plan_.activations().place(workspace.activations, room.max_tokens,
                                                  room.max_sequences, room.max_chosen);
  run_model(
      *model_, sequences, x, outputs,
      [&](OutputKind kind) { return result_of(kind, workspace, outputs); }, operations);
}

// Copies staged results to the caller.
void DeviceSession::fetch(const Workspace& workspace, const BatchArrays& arrays,
                          const Outputs& outputs) {
  const Architecture& a = model_->architecture();
  const auto copy = [&](const OutputArray& to, const void* from, int64_t rows, int64_t cols) {
    if (!to.data || to.data == from) return;
    const auto bytes = static_cast<uint64_t>(rows * cols) * element_bytes(to.dtype);
    if (to.on_device) {
      stream_->copy(to.data, from, bytes);
    } else {
      stream_->download(to.data, from, bytes);
    }
  };
  const RowCounts counts{arrays.num_tokens, arrays.num_sequences, arrays.num_chosen};
  for (const OutputKind kind : kOutputKinds)
    copy(outputs[kind], workspace.results[static_cast<size_t>(kind)], counts.of(rows_of(kind)),
         columns_of(kind, a));
}

uint64_t DeviceSession::workspace_bytes(int64_t num_tokens, int32_t num_sequences,
                                        int32_t /*max_length*/) const {
  return plan_.bytes(num_tokens, num_sequences);
}

void DeviceSession::reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length) {
  uint64_t bytes = workspace_bytes(num_tokens, num_sequences, max_length);
  const uint64_t step = stream_->granularity();
  if (limit_ > 0) bytes = std::min(bytes, limit_ / step * step);
  const bool grown = arena_.reserve(bytes);
  stats_.memory = arena_.stats();
  if (!grown)
    throw Error(Status::kOutOfMemory,
                "no device memory to reserve a workspace of " + std::to_string(bytes) + " bytes");
  stream_->enter(nullptr);  // runs in callers' streams may be in flight
  record_buckets(num_tokens);
  stream_->finish();
}

// Records the forward pass for every bucket up to a size, with each kind of result alone in the
// caller's memory on the host and on the device: what nearly every run asks for.
void DeviceSession::record_buckets(int64_t num_tokens) {
  if (!recording_) return;
  const int64_t most = std::min(num_tokens, DevicePlan::kMaxRecordedTokens);
  char place = 0;  // any address: results are found through the batch when the work is replayed
  for (const bool on_device : {false, true})
    for (const OutputKind kind : kRecordedOutputs) {
      if (columns_of(kind, model_->architecture()) == 0) continue;
      Outputs outputs;
      outputs[kind] = {&place, DType::kFloat32, on_device};
      for (int64_t tokens = 1; tokens <= most;) {
        const Room room = DevicePlan::room(tokens, 1, 0);
        const StagedResults staged = staged_results(*model_, outputs);
        if (!plan_.is_one_part(room.tokens, 1, 0, staged)) break;
        const Workspace workspace = acquire(room, outputs);
        stream_->record(recording_key(room, staged, outputs),
                        [&] { forward_part(workspace, {}, outputs, nullptr); });
        tokens = room.tokens + 1;
      }
    }
  stats_.recordings = stream_->num_recordings();
}

}  // namespace vlt
