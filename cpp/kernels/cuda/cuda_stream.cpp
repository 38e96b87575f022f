#include "kernels/cuda/cuda_stream.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include "kernels/cuda/batch_block.h"
#include "kernels/cuda/device_scope.h"
#include "kernels/cuda/store_header.h"

namespace vlt::cuda {
namespace {

// Kernels are loaded when first used, which a stricter mode would refuse while recording. Other
// threads are not affected.
constexpr cudaStreamCaptureMode kCaptureMode = cudaStreamCaptureModeRelaxed;

// Copies arrays of int32 into the staged input and gives their addresses on the device.
class InputWriter {
 public:
  InputWriter(std::byte* staged, std::byte* device) : staged_(staged), device_(device) {
    used_ = BatchBlock::aligned(sizeof(BatchHeader));
  }

  // [count] values, each less `base`; null stays null.
  const int32_t* add(const int32_t* values, int64_t count, int32_t base = 0) {
    if (!values) return nullptr;
    auto* to = reinterpret_cast<int32_t*>(staged_ + used_);
    if (base == 0) {
      std::memcpy(to, values, static_cast<size_t>(count) * sizeof(int32_t));
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = values[i] - base;
    }
    const auto* address = reinterpret_cast<const int32_t*>(device_ + used_);
    used_ += BatchBlock::array_bytes(count);
    return address;
  }

  uint64_t used() const { return used_; }

 private:
  std::byte* staged_;
  std::byte* device_;
  uint64_t used_;
};

UniqueStream new_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return UniqueStream(stream);
}

InputProblem problem_of(const InputError& error) {
  using Kind = InputProblem::Kind;
  static constexpr Kind kKinds[] = {Kind::kNone,
                                    Kind::kStartsNotAscending,
                                    Kind::kFirstStartNotZero,
                                    Kind::kLastStartNotTokens,
                                    Kind::kTooLong,
                                    Kind::kTokenId,
                                    Kind::kTokenType,
                                    Kind::kPoolingStart,
                                    Kind::kChosenToken};
  static_assert(static_cast<int>(Kind::kChosenToken) == InputError::kChosenToken);
  return {kKinds[error.kind], error.index, error.value};
}

}  // namespace

CudaStream::CudaStream(const DeviceTraits& device, DType dtype, int max_threads)
    : device_(device),
      own_stream_(new_stream()),
      stream_(own_stream_.get()),
      uploaded_(new_event(cudaEventDisableTiming)),
      finished_(new_event(cudaEventDisableTiming)),
      memory_(device.index),
      copies_(device.index, max_threads),
      error_(reinterpret_cast<InputError*>(error_memory_.room_for(sizeof(InputError)))),
      operations_(device, dtype, stream_, error_) {
  *error_ = {};
}

std::byte* CudaStream::reserve(uint64_t bytes) {
  const DeviceScope scope(device_.index);
  return memory_.reserve(bytes);
}

bool CudaStream::commit(std::byte* base, uint64_t from, uint64_t to) {
  const DeviceScope scope(device_.index);
  return memory_.commit(base, from, to);
}

bool CudaStream::decommit(std::byte* base, uint64_t from, uint64_t to) {
  synchronize();
  memory_.decommit(base, from, to);
  return true;
}

void CudaStream::unreserve(std::byte* base, uint64_t bytes) noexcept {
  cudaEventSynchronize(finished_.get());
  cudaStreamSynchronize(stream_);
  memory_.unreserve(base, bytes);
}

uint64_t CudaStream::batch_bytes(int64_t max_tokens, int64_t max_sequences,
                                 int64_t max_chosen) const {
  return BatchBlock(max_tokens, max_sequences, max_chosen).total_bytes;
}

void CudaStream::upload(const BatchRoom& room, const BatchArrays& arrays,
                        const DeviceResults& results) {
  const DeviceScope scope(device_.index);
  BatchHeader header{};
  header.num_tokens = static_cast<int32_t>(arrays.num_tokens);
  header.num_sequences = arrays.num_sequences;
  header.num_chosen = arrays.num_chosen;
  header.token_ids = arrays.token_ids;
  header.token_types = arrays.token_types;
  header.sequence_starts = arrays.sequence_starts;
  header.pooling_starts = arrays.pooling_starts;
  header.chosen_tokens = arrays.chosen_tokens;
  header.hidden = results.hidden;
  header.embedding = results.embedding;
  if (arrays.tokens_on_device && arrays.sequences_on_device) {
    store_header(header, reinterpret_cast<BatchHeader*>(room.block), stream_);
  } else {
    upload_arrays(room, arrays, header);
  }
}

void CudaStream::upload_arrays(const BatchRoom& room, const BatchArrays& arrays,
                               BatchHeader header) {
  check(cudaEventSynchronize(uploaded_.get()), "an earlier batch");
  const BatchBlock block(room.max_tokens, room.max_sequences, room.max_chosen);
  std::byte* staged = input_.room_for(block.input_bytes);
  InputWriter writer(staged, room.block);
  if (!arrays.tokens_on_device) {
    header.token_ids = writer.add(arrays.token_ids, arrays.num_tokens);
    header.token_types = writer.add(arrays.token_types, arrays.num_tokens);
  }
  if (!arrays.sequences_on_device) {
    const int64_t count = arrays.num_sequences;
    const int32_t first = arrays.sequence_starts[0];
    header.sequence_starts = writer.add(arrays.sequence_starts, count + 1, first);
    header.pooling_starts = writer.add(arrays.pooling_starts, count);
    header.chosen_tokens = writer.add(arrays.chosen_tokens, arrays.num_chosen, first);
  }
  std::memcpy(staged, &header, sizeof(header));
  check(cudaMemcpyAsync(room.block, staged, writer.used(), cudaMemcpyHostToDevice, stream_),
        "bringing a batch to the device");
  check(cudaEventRecord(uploaded_.get(), stream_), "cudaEventRecord");
}

Operations& CudaStream::begin(const BatchRoom& room, const BatchLimits& limits) {
  const DeviceScope scope(device_.index);
  operations_.begin(room, limits);
  return operations_;
}

void* CudaStream::hidden_slot(const BatchRoom& room) const {
  return room.block + offsetof(BatchHeader, hidden);
}

void* CudaStream::embedding_slot(const BatchRoom& room) const {
  return room.block + offsetof(BatchHeader, embedding);
}

// In the own stream, whichever the graph will be launched in: the legacy default stream cannot be
// captured.
UniqueGraph CudaStream::captured(const std::function<void()>& body) {
  const cudaStream_t stream = own_stream_.get();
  check(cudaStreamBeginCapture(stream, kCaptureMode), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  operations_.use(stream);
  try {
    body();
  } catch (...) {
    operations_.use(stream_);
    cudaStreamEndCapture(stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  operations_.use(stream_);
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t ready = nullptr;
  const cudaError_t result = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  check(result, "cudaGraphInstantiate");
  return UniqueGraph(ready);
}

void CudaStream::record(uint64_t key, const std::function<void()>& body) {
  const DeviceScope scope(device_.index);
  if (graphs_.count(key) > 0) return;
  UniqueGraph graph = captured(body);
  check(cudaGraphUpload(graph.get(), stream_), "cudaGraphUpload");
  graphs_[key] = std::move(graph);
}

void CudaStream::replay(uint64_t key, const std::function<void()>& body) {
  const DeviceScope scope(device_.index);
  auto graph = graphs_.find(key);
  if (graph == graphs_.end()) graph = graphs_.emplace(key, captured(body)).first;
  check(cudaGraphLaunch(graph->second.get(), stream_), "cudaGraphLaunch");
}

void CudaStream::forget_recordings() {
  if (graphs_.empty()) return;
  synchronize();
  graphs_.clear();
}

bool CudaStream::enter(void* callers_stream) {
  const DeviceScope scope(device_.index);
  const cudaStream_t stream =
      callers_stream ? static_cast<cudaStream_t>(callers_stream) : own_stream_.get();
  cudaStreamCaptureStatus capture{};
  check(cudaStreamIsCapturing(stream, &capture), "entering the caller's stream");
  if (capture != cudaStreamCaptureStatusNone) return false;
  // All runs use the one workspace.
  check(cudaStreamWaitEvent(stream, finished_.get(), 0), "entering the caller's stream");
  stream_ = stream;
  operations_.use(stream);
  return true;
}

void CudaStream::finish() {
  const DeviceScope scope(device_.index);
  // First of all: a caller's stream must not be kept, whatever fails.
  const cudaStream_t stream = std::exchange(stream_, own_stream_.get());
  operations_.use(stream_);
  check(cudaEventRecord(finished_.get(), stream), "cudaEventRecord");
}

void CudaStream::download(void* host, const void* device, uint64_t bytes) {
  copies_.copy(host, device, bytes, stream_);
}

void CudaStream::copy(void* to, const void* from, uint64_t bytes) {
  const DeviceScope scope(device_.index);
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copying a result");
}

void CudaStream::fill(void* device, int byte, uint64_t bytes) {
  const DeviceScope scope(device_.index);
  check(cudaMemsetAsync(device, byte, bytes, stream_), "cudaMemsetAsync");
}

void CudaStream::synchronize() {
  check(cudaEventSynchronize(finished_.get()), "running a batch");
  check(cudaStreamSynchronize(stream_), "running a batch");  // of a run that is not finished
}

bool CudaStream::has_problem() const {
  return *static_cast<const volatile int32_t*>(&error_->kind) != InputError::kNone;
}

InputProblem CudaStream::take_problem() {
  const InputProblem problem = problem_of(*error_);
  *error_ = {};
  return problem;
}

void CudaStream::mark() {
  const DeviceScope scope(device_.index);
  if (num_marks_ == marks_.size()) marks_.push_back(new_event(cudaEventDefault));
  check(cudaEventRecord(marks_[num_marks_++].get(), stream_), "cudaEventRecord");
}

std::vector<double> CudaStream::take_times() {
  synchronize();
  std::vector<double> times;
  for (size_t i = 1; i < num_marks_; ++i) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, marks_[i - 1].get(), marks_[i].get()),
          "cudaEventElapsedTime");
    times.push_back(milliseconds * 1e-3);
  }
  num_marks_ = 0;
  return times;
}

}  // namespace vlt::cuda
