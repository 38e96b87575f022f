#include "kernels/registry.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_info.h"
#if defined(VLT_CUDA)
#include "kernels/cuda/cuda_backend.h"
#endif
#include "kernels/reference/reference_backend.h"

namespace vlt {

std::vector<std::string> cpu_backend_names() {
  std::vector<std::string> names;
  for (const KernelTable* table : built_kernel_tables()) names.emplace_back(table->name);
  names.emplace_back("reference");
  return names;
}

#if defined(VLT_CUDA)
CudaChoice choose_cuda_backend(int device_index, DType compute_type) {
  CudaChoice choice;
  choice.backend = cuda::make_cuda_backend(device_index, compute_type, choice.problem);
  return choice;
}

std::vector<std::string> cuda_architectures() { return cuda::built_architectures(); }
#else
CudaChoice choose_cuda_backend(int, DType) {
  return {nullptr, "this build of vlt has no CUDA backend"};
}

std::vector<std::string> cuda_architectures() { return {}; }
#endif

BackendChoice choose_cpu_backend(const std::string& name) {
  if (name == "reference") return {make_reference_backend(), BackendProblem::kNone};
  bool known = name.empty();
  for (const KernelTable* table : built_kernel_tables()) {
    if (!name.empty() && name != table->name) continue;
    known = true;
    if (is_supported(*table)) return {make_cpu_backend(*table), BackendProblem::kNone};
  }
  return {nullptr, known ? BackendProblem::kNotOnThisMachine : BackendProblem::kUnknownName};
}

}  // namespace vlt
