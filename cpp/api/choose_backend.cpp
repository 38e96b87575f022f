#include <cstdlib>
#include <cstring>

#include "api/guard.h"
#include "api/handles.h"
#include "base/error.h"
#include "base/log.h"
#include "kernels/registry.h"

namespace vlt {
namespace {

std::unique_ptr<Backend> choose_cpu(const vlt_model_options& options) {
  require(options.device_index == 0,
          "device_index is " + std::to_string(options.device_index) + "; the CPU is device 0");
  if (options.compute_type == VLT_FLOAT16)
    throw Error(
        Status::kUnsupported,
        "compute type float16: the CPU backend computes with weights of float32, bfloat16 or int8; "
        "use VLT_FLOAT32, VLT_BFLOAT16, VLT_INT8 or VLT_DTYPE_AUTO");

  const char* forced = std::getenv("VLT_CPU_ISA");
  const std::string name = forced ? forced : "";
  const DType weights = dtype_of(options.compute_type);
  BackendChoice choice = choose_cpu_backend(name, weights);
  require(choice.problem != BackendProblem::kUnknownName,
          "the environment variable VLT_CPU_ISA is '" + name + "'; it must be one of " +
              joined(cpu_backend_names(), ""));
  if (choice.problem == BackendProblem::kOnlyInFloat32)
    throw Error(Status::kUnsupported,
                "the environment variable VLT_CPU_ISA is 'reference', which computes in float32 "
                "alone; the compute type is " +
                    std::string(weights == DType::kInt8 ? "int8" : "bfloat16"));
  if (choice.problem == BackendProblem::kNotOnThisMachine)
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

}  // namespace

std::string joined(const std::vector<std::string>& words, const char* quote) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + (quote + word) + quote;
  return text;
}

DType dtype_of(int32_t type) {
  return type == VLT_FLOAT16    ? DType::kFloat16
         : type == VLT_BFLOAT16 ? DType::kBFloat16
         : type == VLT_INT8     ? DType::kInt8
                                : DType::kFloat32;
}

int32_t type_of(DType dtype) {
  return dtype == DType::kFloat16    ? VLT_FLOAT16
         : dtype == DType::kBFloat16 ? VLT_BFLOAT16
         : dtype == DType::kInt8     ? VLT_INT8
                                     : VLT_FLOAT32;
}

std::unique_ptr<Backend> choose_backend(const vlt_model_options& options) {
  require(options.device_type >= VLT_DEVICE_AUTO && options.device_type <= VLT_DEVICE_CUDA,
          "device_type is " + std::to_string(options.device_type) + "; it must be a VLT_DEVICE_*");
  require(options.compute_type >= VLT_DTYPE_AUTO && options.compute_type <= VLT_INT8,
          "compute_type is " + std::to_string(options.compute_type) +
              "; it must be VLT_DTYPE_AUTO, VLT_FLOAT32, VLT_FLOAT16, VLT_BFLOAT16 or VLT_INT8");
  const int32_t wanted =
      options.device_type == VLT_DEVICE_AUTO ? automatic_device() : options.device_type;
  if (wanted == VLT_DEVICE_CPU) return choose_cpu(options);
  if (options.compute_type == VLT_INT8) {
    if (wanted == VLT_DEVICE_AUTO) return choose_cpu(options);
    throw Error(Status::kUnsupported,
                "compute type int8: CUDA computes in float16, bfloat16 or float32; int8 is for the "
                "device cpu");
  }
  const int32_t type = options.compute_type == VLT_DTYPE_AUTO ? VLT_FLOAT16 : options.compute_type;
  CudaChoice choice = choose_cuda_backend(options.device_index, dtype_of(type));
  if (choice.backend) return std::move(choice.backend);
  if (wanted == VLT_DEVICE_AUTO) {
    log_what(LogLevel::kInfo, [&] { return "the CPU is used: " + choice.problem; });
    return choose_cpu(options);
  }
  throw Error(Status::kUnsupported, "device cuda:" + std::to_string(options.device_index) + ": " +
                                        choice.problem + "; the device cpu needs no GPU");
}

}  // namespace vlt
