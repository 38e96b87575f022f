// The functions of vlt.h: check arguments, translate structs, call the library. Nothing throws
// here.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "api/guard.h"
#include "encoder/session.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/registry.h"
#include "model/model.h"
#include "vlt.h"

struct vlt_model {
  std::shared_ptr<const vlt::Model> model;
};

struct vlt_session {
  std::unique_ptr<vlt::Session> session;
};

namespace {

using vlt::Error;
using vlt::require;
using vlt::Status;

constexpr int kMaxThreads = 1024;

std::string joined(const std::vector<std::string>& words, const char* quote) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + (quote + word) + quote;
  return text;
}

std::string build_info() {
#if defined(__clang__)
  const std::string compiler = "clang " __clang_version__;
#else
  const std::string compiler = "gcc " __VERSION__;
#endif
  return "{\"version\": \"" VLT_VERSION "\", \"compiler\": \"" + compiler +
         "\", \"instruction_sets\": [" + joined(vlt::cpu_backend_names(), "\"") +
         "], \"cuda_architectures\": [" + joined(vlt::cuda_architectures(), "\"") + "]}";
}

vlt::DType dtype_of(int32_t type) {
  return type == VLT_FLOAT16    ? vlt::DType::kFloat16
         : type == VLT_BFLOAT16 ? vlt::DType::kBFloat16
                                : vlt::DType::kFloat32;
}

int32_t type_of(vlt::DType dtype) {
  return dtype == vlt::DType::kFloat16    ? VLT_FLOAT16
         : dtype == vlt::DType::kBFloat16 ? VLT_BFLOAT16
                                          : VLT_FLOAT32;
}

std::unique_ptr<vlt::Backend> choose_cpu(const vlt_model_options& options) {
  require(options.device_index == 0,
          "device_index is " + std::to_string(options.device_index) + "; the CPU is device 0");
  if (options.compute_type == VLT_FLOAT16 || options.compute_type == VLT_BFLOAT16)
    throw Error(Status::kUnsupported,
                std::string("compute type ") +
                    (options.compute_type == VLT_FLOAT16 ? "float16" : "bfloat16") +
                    ": the CPU backend computes in float32; use VLT_FLOAT32 or VLT_DTYPE_AUTO");

  const char* forced = std::getenv("VLT_CPU_ISA");
  const std::string name = forced ? forced : "";
  vlt::BackendChoice choice = vlt::choose_cpu_backend(name);
  require(choice.problem != vlt::BackendProblem::kUnknownName,
          "the environment variable VLT_CPU_ISA is '" + name + "'; it must be one of " +
              joined(vlt::cpu_backend_names(), ""));
  if (choice.problem == vlt::BackendProblem::kNotOnThisMachine)
    throw Error(Status::kUnsupported, "the environment variable VLT_CPU_ISA asks for '" + name +
                                          "', which this machine cannot run");
  return std::move(choice.backend);
}

// What the environment makes of VLT_DEVICE_AUTO.
int32_t automatic_device() {
  const char* device = std::getenv("VLT_DEVICE");
  // Who forces an instruction set of the CPU means the CPU.
  if (!device) return std::getenv("VLT_CPU_ISA") ? VLT_DEVICE_CPU : VLT_DEVICE_AUTO;
  require(std::strcmp(device, "cpu") == 0 || std::strcmp(device, "cuda") == 0,
          std::string("the environment variable VLT_DEVICE is '") + device +
              "'; it must be cpu or cuda");
  return std::strcmp(device, "cpu") == 0 ? VLT_DEVICE_CPU : VLT_DEVICE_CUDA;
}

std::unique_ptr<vlt::Backend> choose_backend(const vlt_model_options& options) {
  require(options.device_type >= VLT_DEVICE_AUTO && options.device_type <= VLT_DEVICE_CUDA,
          "device_type is " + std::to_string(options.device_type) + "; it must be a VLT_DEVICE_*");
  require(options.compute_type >= VLT_DTYPE_AUTO && options.compute_type <= VLT_BFLOAT16,
          "compute_type is " + std::to_string(options.compute_type) +
              "; it must be VLT_DTYPE_AUTO, VLT_FLOAT32, VLT_FLOAT16 or VLT_BFLOAT16");
  const int32_t wanted =
      options.device_type == VLT_DEVICE_AUTO ? automatic_device() : options.device_type;
  if (wanted == VLT_DEVICE_CPU) return choose_cpu(options);
  const int32_t type = options.compute_type == VLT_DTYPE_AUTO ? VLT_FLOAT16 : options.compute_type;
  vlt::CudaChoice choice = vlt::choose_cuda_backend(options.device_index, dtype_of(type));
  if (choice.backend) return std::move(choice.backend);
  if (wanted == VLT_DEVICE_AUTO) return choose_cpu(options);
  throw Error(Status::kUnsupported, "device cuda:" + std::to_string(options.device_index) + ": " +
                                        choice.problem + "; the device cpu needs no GPU");
}

vlt_status load(std::unique_ptr<vlt::ByteSource> (*open)(const void*, uint64_t), const void* where,
                uint64_t size, const vlt_model_options* options, vlt_model** out_model) {
  return vlt::guarded([&] {
    require(out_model != nullptr, "out_model is NULL; pass where to store the model");
    vlt_model_options known{};
    if (options) known = vlt::read_struct(options, "vlt_model_options");
    std::unique_ptr<vlt::Backend> backend = choose_backend(known);
    const vlt::WeightsFile file(open(where, size));
    auto model = std::make_shared<const vlt::Model>(file, std::move(backend));
    *out_model = new vlt_model{std::move(model)};
  });
}

void check_size(int64_t num_tokens, int32_t num_sequences, int32_t max_length) {
  const auto check = [](const char* name, int64_t value) {
    require(value >= 0 && value <= INT32_MAX,
            std::string(name) + " is " + std::to_string(value) + "; it must be 0 … 2147483647");
  };
  check("num_tokens", num_tokens);
  check("num_sequences", num_sequences);
  check("max_length", max_length);
}

const vlt::DeviceBackend& device_of(const vlt_model* model) {
  require(model != nullptr, "model is NULL");
  const vlt::DeviceBackend* device = model->model->backend().as_device();
  if (!device)
    throw Error(Status::kUnsupported, "the model is on the CPU, which has no device memory");
  return *device;
}

void check_memory(const std::string& name, int32_t memory, const vlt::Model& model) {
  require(memory == VLT_MEMORY_HOST || memory == VLT_MEMORY_DEVICE,
          name + ".memory is " + std::to_string(memory) + "; it must be a VLT_MEMORY_*");
  require(memory == VLT_MEMORY_HOST || model.backend().as_device(),
          name + ".memory is VLT_MEMORY_DEVICE, but the model is on the CPU");
}

// The output of a VLT_OUTPUT_*; their order is that of the enum, from 1 on.
vlt::OutputKind kind_of(int32_t kind, const std::string& name) {
  static_assert(VLT_OUTPUT_HIDDEN == 1 + static_cast<int>(vlt::OutputKind::kHidden));
  static_assert(VLT_OUTPUT_EMBEDDING == 1 + static_cast<int>(vlt::OutputKind::kEmbedding));
  static_assert(VLT_OUTPUT_LOGITS == 1 + static_cast<int>(vlt::OutputKind::kLogits));
  static_assert(VLT_OUTPUT_TOKEN_LOGITS == 1 + static_cast<int>(vlt::OutputKind::kTokenLogits));
  static_assert(VLT_OUTPUT_VOCABULARY == 1 + static_cast<int>(vlt::OutputKind::kVocabulary));
  static_assert(VLT_OUTPUT_SPARSE == 1 + static_cast<int>(vlt::OutputKind::kSparse));
  require(kind >= VLT_OUTPUT_HIDDEN && kind <= VLT_OUTPUT_SPARSE,
          name + ".kind is " + std::to_string(kind) + "; it must be a VLT_OUTPUT_*");
  return static_cast<vlt::OutputKind>(kind - 1);
}

void check_head(vlt::OutputKind kind, const std::string& name, const vlt::Model& model,
                const vlt_packed_batch& batch) {
  const vlt::Architecture& architecture = model.architecture();
  const std::optional<vlt::HeadKind> head = vlt::head_of(kind);
  if (!head) return;
  const std::string key(vlt::head_key(*head));
  if (architecture.head(*head).steps.empty())
    throw Error(Status::kUnsupported, name +
                                          " asks for what a head makes that the weights file "
                                          "does not have (metadata key " +
                                          key + ")");
  if (kind == vlt::OutputKind::kSparse && !architecture.makes_sparse)
    throw Error(Status::kUnsupported, name +
                                          " asks for sparse embeddings, but the weights file's "
                                          "vocabulary head makes none (metadata key sparse)");
  if (*head == vlt::HeadKind::kVocabulary && batch.memory == VLT_MEMORY_DEVICE)
    throw Error(Status::kUnsupported, name +
                                          " asks for what the vocabulary head makes, for which "
                                          "the batch has to be in host memory");
}

// Adds one output to what the session writes.
void add_output(const vlt_output& output, int32_t index, const vlt::Model& model,
                const vlt_packed_batch& batch, vlt::Outputs& outputs) {
  const std::string name = "outputs[" + std::to_string(index) + "]";
  const vlt::OutputKind kind = kind_of(output.kind, name);
  const int32_t type = output.dtype == VLT_DTYPE_AUTO ? VLT_FLOAT32 : output.dtype;
  require(type == VLT_FLOAT32 ||
              (kind == vlt::OutputKind::kHidden && type == type_of(model.backend().compute_type())),
          name + ".dtype is " + std::to_string(output.dtype) +
              "; it must be VLT_DTYPE_AUTO or VLT_FLOAT32, or for hidden states the model's "
              "compute type");
  check_memory(name, output.memory, model);
  check_head(kind, name, model, batch);
  const vlt::RowCounts counts{batch.num_tokens, batch.num_sequences, batch.num_chosen};
  const int64_t rows = counts.of(vlt::rows_of(kind));
  const int64_t cols = vlt::columns_of(kind, model.architecture());
  const uint64_t needed = static_cast<uint64_t>(std::max<int64_t>(rows, 0)) *
                          static_cast<uint64_t>(cols) * vlt::element_bytes(dtype_of(type));
  require(output.bytes >= needed, name + ".bytes is " + std::to_string(output.bytes) +
                                      "; this batch needs " + std::to_string(needed));
  require(output.data != nullptr || needed == 0, name + ".data is NULL");
  require(!outputs.wants(kind), name + ".kind is " + std::to_string(output.kind) +
                                    ", which an earlier output already asks for");
  outputs[kind] = {output.data, dtype_of(type), output.memory == VLT_MEMORY_DEVICE};
}

}  // namespace

int32_t vlt_abi_version(void) { return VLT_ABI_VERSION; }

const char* vlt_build_info(void) {
  try {
    static const std::string info = build_info();
    return info.c_str();
  } catch (...) {
    return "{}";  // no memory for the text; the next call may have some
  }
}

const char* vlt_last_error(void) { return vlt::last_error(); }

vlt_status vlt_model_load(const char* path, const vlt_model_options* options,
                          vlt_model** out_model) {
  if (!path) return vlt::fail(Status::kInvalidArgument, "path is NULL; pass a weights file's path");
  const auto open = [](const void* where, uint64_t) {
    return vlt::open_file_source(static_cast<const char*>(where));
  };
  return load(open, path, 0, options, out_model);
}

vlt_status vlt_model_load_memory(const void* bytes, uint64_t num_bytes,
                                 const vlt_model_options* options, vlt_model** out_model) {
  if (!bytes)
    return vlt::fail(Status::kInvalidArgument, "bytes is NULL; pass a weights file's contents");
  return load(vlt::borrow_memory_source, bytes, num_bytes, options, out_model);
}

vlt_status vlt_model_get_info(const vlt_model* model, vlt_model_info* info) {
  return vlt::guarded([&] {
    require(model != nullptr, "model is NULL");
    const vlt::Architecture& a = model->model->architecture();
    vlt_model_info result{};
    const vlt::DeviceBackend* device = model->model->backend().as_device();
    result.device_type = device ? VLT_DEVICE_CUDA : VLT_DEVICE_CPU;
    result.device_index = device ? device->device_index() : 0;
    result.compute_type = type_of(model->model->backend().compute_type());
    result.num_layers = a.num_layers;
    result.hidden_size = a.hidden_size;
    result.num_heads = a.num_heads;
    result.head_size = a.head_size;
    result.intermediate_size = a.intermediate_size;
    result.vocab_size = a.vocab_size;
    result.num_token_types = a.num_token_types;
    result.max_length = a.max_length();
    const auto outputs = [&](vlt::HeadKind head) {
      return static_cast<int32_t>(a.head(head).output_size);
    };
    result.embedding_size = outputs(vlt::HeadKind::kEmbedding);
    result.num_labels = outputs(vlt::HeadKind::kSequence);
    result.num_token_labels = outputs(vlt::HeadKind::kToken);
    result.vocabulary_outputs = outputs(vlt::HeadKind::kVocabulary);
    result.sparse_size = a.makes_sparse ? result.vocabulary_outputs : 0;
    result.weight_bytes = model->model->weight_bytes();
    result.kernels = model->model->backend().name();
    vlt::write_struct(result, info, "vlt_model_info");
  });
}

const char* vlt_model_metadata(const vlt_model* model, const char* key) {
  if (!model || !key) return nullptr;
  for (const auto& [name, value] : model->model->metadata())
    if (name == key) return value.c_str();
  return nullptr;
}

const char* vlt_model_metadata_key(const vlt_model* model, int32_t index) {
  if (!model || index < 0) return nullptr;
  const auto& metadata = model->model->metadata();
  const auto i = static_cast<size_t>(index);
  return i < metadata.size() ? metadata[i].first.c_str() : nullptr;
}

vlt_status vlt_model_get_tokenizer(const vlt_model* model, const void** out_bytes,
                                   uint64_t* out_num_bytes) {
  return vlt::guarded([&] {
    require(model != nullptr, "model is NULL");
    require(out_bytes && out_num_bytes, "out_bytes or out_num_bytes is NULL");
    const std::vector<uint8_t>& tokenizer = model->model->tokenizer();
    *out_bytes = tokenizer.empty() ? nullptr : tokenizer.data();
    *out_num_bytes = tokenizer.size();
  });
}

void vlt_model_free(vlt_model* model) { delete model; }

vlt_status vlt_session_create(vlt_model* model, const vlt_session_options* options,
                              vlt_session** out_session) {
  return vlt::guarded([&] {
    require(model != nullptr, "model is NULL");
    require(out_session != nullptr, "out_session is NULL; pass where to store the session");
    vlt_session_options known{};
    if (options) known = vlt::read_struct(options, "vlt_session_options");
    require(known.num_threads >= 0 && known.num_threads <= kMaxThreads,
            "num_threads is " + std::to_string(known.num_threads) + "; it must be 0 … " +
                std::to_string(kMaxThreads));
    require(known.profile == 0 || known.profile == 1,
            "profile is " + std::to_string(known.profile) + "; it must be 0 or 1");
    vlt::SessionOptions session_options;
    session_options.num_workers = known.num_threads > 0 ? known.num_threads : vlt::usable_cores();
    session_options.workspace_limit = known.workspace_limit;
    session_options.profile = known.profile == 1;
    require(known.disable_graphs == 0 || known.disable_graphs == 1,
            "disable_graphs is " + std::to_string(known.disable_graphs) + "; it must be 0 or 1");
    session_options.record = known.disable_graphs == 0;
    if (known.allocator) {
      require(!model->model->backend().as_device(),
              "vlt_session_options.allocator is set, but the model is on a CUDA device; workspaces "
              "there come from the driver");
      const auto allocator = vlt::read_struct(known.allocator, "vlt_allocator");
      require(allocator.allocate && allocator.release,
              "vlt_allocator.allocate or .release is NULL; set both");
      session_options.callbacks = {allocator.allocate, allocator.release, allocator.context};
    }
    *out_session = new vlt_session{vlt::create_session(model->model, session_options)};
  });
}

void vlt_session_free(vlt_session* session) { delete session; }

vlt_status vlt_session_cancel(vlt_session* session) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    session->session->request_stop();
  });
}

vlt_status vlt_session_workspace_bytes(const vlt_session* session, int64_t num_tokens,
                                       int32_t num_sequences, int32_t max_length,
                                       uint64_t* out_bytes) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    require(out_bytes != nullptr, "out_bytes is NULL; pass where to store the size");
    check_size(num_tokens, num_sequences, max_length);
    *out_bytes = session->session->workspace_bytes(num_tokens, num_sequences, max_length);
  });
}

vlt_status vlt_session_reserve(vlt_session* session, int64_t num_tokens, int32_t num_sequences,
                               int32_t max_length) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    check_size(num_tokens, num_sequences, max_length);
    session->session->reserve(num_tokens, num_sequences, max_length);
  });
}

vlt_status vlt_session_get_memory_stats(const vlt_session* session, vlt_memory_stats* stats) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    const vlt::SessionStats& s = session->session->stats();
    vlt_memory_stats result{};
    result.planned_peak_bytes = s.planned_peak_bytes;
    result.held_bytes = s.memory.held_bytes;
    result.peak_held_bytes = s.memory.peak_held_bytes;
    result.system_allocations = s.memory.system_allocations;
    result.releases = s.memory.releases;
    result.runs = s.runs;
    result.parts = s.parts;
    result.planning_seconds = s.planning_seconds;
    result.graphs = s.recordings;
    vlt::write_struct(result, stats, "vlt_memory_stats");
  });
}

vlt_status vlt_session_get_profile(const vlt_session* session, vlt_profile_entry* entries,
                                   int32_t* count) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    require(count != nullptr, "count is NULL; pass the capacity of entries");
    const vlt::Profile& profile = session->session->profile();
    auto written = static_cast<int32_t>(profile.size());
    if (entries) {
      require(*count >= 0, "count is " + std::to_string(*count) + "; it must be 0 or more");
      written = std::min(written, *count);
      for (int32_t i = 0; i < written; ++i) {
        const vlt::ProfileRow& row = profile.begin()[i];
        entries[i] = {row.name, row.calls, row.seconds / session->session->num_workers(),
                      row.flops};
      }
    }
    *count = written;
  });
}

vlt_status vlt_run(vlt_session* session, const vlt_packed_batch* batch, const vlt_output* outputs,
                   int32_t num_outputs) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    require(batch != nullptr, "batch is NULL");
    require(num_outputs >= 0 && (outputs != nullptr || num_outputs == 0),
            "outputs is NULL or num_outputs is negative");
    const vlt_packed_batch b = vlt::read_struct(batch, "vlt_packed_batch");
    vlt::Outputs wanted;
    for (int32_t i = 0; i < num_outputs; ++i) {
      // The caller's array may be of longer or shorter structs than this library's.
      const auto* output = reinterpret_cast<const vlt_output*>(
          reinterpret_cast<const unsigned char*>(outputs) + size_t{outputs->struct_size} * i);
      const vlt_output known = vlt::read_struct(output, "vlt_output");
      require(known.struct_size == outputs->struct_size,
              "outputs[" + std::to_string(i) + "].struct_size is " +
                  std::to_string(known.struct_size) + ", but outputs[0] has " +
                  std::to_string(outputs->struct_size) + "; they must be equal");
      add_output(known, i, session->session->model(), b, wanted);
    }
    check_memory("batch", b.memory, session->session->model());
    require(!b.stream || session->session->model().backend().as_device(),
            "batch.stream is set, but the model is on the CPU");
    const vlt::PackedBatch packed{b.num_tokens,
                                  b.num_sequences,
                                  b.token_ids,
                                  b.sequence_starts,
                                  b.token_types,
                                  b.pooling_starts,
                                  b.memory == VLT_MEMORY_DEVICE,
                                  b.stream,
                                  b.num_chosen,
                                  b.chosen_tokens};
    session->session->run(packed, wanted);
  });
}

vlt_status vlt_session_synchronize(vlt_session* session) {
  return vlt::guarded([&] {
    require(session != nullptr, "session is NULL");
    session->session->synchronize();
  });
}

vlt_status vlt_device_allocate(const vlt_model* model, uint64_t num_bytes, void** out_memory) {
  return vlt::guarded([&] {
    require(out_memory != nullptr, "out_memory is NULL; pass where to store the address");
    const vlt::DeviceBackend& device = device_of(model);
    void* memory = num_bytes > 0 ? device.allocate(num_bytes) : nullptr;
    if (num_bytes > 0 && !memory)
      throw Error(Status::kOutOfMemory,
                  "the device has no " + std::to_string(num_bytes) + " bytes left");
    *out_memory = memory;
  });
}

void vlt_device_free(const vlt_model* model, void* memory) {
  if (!model || !memory) return;
  vlt::guarded([&] {
    if (const vlt::DeviceBackend* device = model->model->backend().as_device())
      device->release(memory);
  });
}

vlt_status vlt_device_copy(const vlt_model* model, void* to, const void* from, uint64_t num_bytes) {
  return vlt::guarded([&] {
    const vlt::DeviceBackend& device = device_of(model);
    require((to && from) || num_bytes == 0, "to or from is NULL");
    if (num_bytes > 0) device.copy(to, from, num_bytes);
  });
}
