// vlt.h: models, and memory of the device that one is on.
#include <memory>
#include <string>

#include "api/guard.h"
#include "api/handles.h"
#include "base/log.h"
#include "kernels/device.h"
#include "vlt.h"

namespace {

using vlt::Error;
using vlt::LogLevel;
using vlt::require;
using vlt::Status;

void log_model(const std::string& file, const vlt::Model& model) {
  vlt::log_what(LogLevel::kInfo, [&] {
    const vlt::Architecture& a = model.architecture();
    return "loaded " + file + ": " + std::to_string(a.num_layers) + " layers of " +
           std::to_string(a.hidden_size) + ", " + std::to_string(model.weight_bytes() >> 20) +
           " MiB of weights, kernels " + model.backend().name();
  });
}

vlt_status load(std::unique_ptr<vlt::ByteSource> (*open)(const void*, uint64_t), const void* where,
                uint64_t size, const vlt_model_options* options, vlt_model** out_model) {
  return vlt::guarded([&] {
    require(out_model != nullptr, "out_model is NULL; pass where to store the model");
    vlt_model_options known{};
    if (options) known = vlt::read_struct(options, "vlt_model_options");
    std::unique_ptr<vlt::Backend> backend = vlt::choose_backend(known);
    const vlt::WeightsFile file(open(where, size));
    auto model = std::make_shared<const vlt::Model>(file, std::move(backend));
    log_model(file.name(), *model);
    *out_model = new vlt_model{std::move(model)};
  });
}

const vlt::DeviceBackend& device_of(const vlt_model* model) {
  require(model != nullptr, "model is NULL");
  const vlt::DeviceBackend* device = model->model->backend().as_device();
  if (!device)
    throw Error(Status::kUnsupported, "the model is on the CPU, which has no device memory");
  return *device;
}

}  // namespace

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
    result.compute_type = vlt::type_of(model->model->backend().compute_type());
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
