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
  for (const InstructionSet& set : instruction_sets()) names.emplace_back(set.name);
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

BackendChoice choose_cpu_backend(const std::string& name, DType compute_type) {
  const bool bfloat16 = compute_type == DType::kBFloat16;
  if (name == "reference") {
    if (bfloat16) return {nullptr, BackendProblem::kNotInBfloat16};
    return {make_reference_backend(), BackendProblem::kNone};
  }
  bool known = name.empty();
  for (const InstructionSet& set : instruction_sets()) {
    if (name.empty() ? set.is_for_bfloat16() && !bfloat16 : name != set.name) continue;
    known = true;
    if (!set.supported || (bfloat16 && set.ask && !set.ask())) continue;
    const CpuKernels kernels =
        bfloat16 ? CpuKernels{set.name, set.table, set.linear_bfloat16, compute_type}
                 : CpuKernels{set.table->name, set.table, &set.table->linear, compute_type};
    return {make_cpu_backend(kernels), BackendProblem::kNone};
  }
  return {nullptr, known ? BackendProblem::kNotOnThisMachine : BackendProblem::kUnknownName};
}

}  // namespace vlt
