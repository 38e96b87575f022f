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
  if (name == "reference") {
    if (compute_type != DType::kFloat32) return {nullptr, BackendProblem::kOnlyInFloat32};
    return {make_reference_backend(), BackendProblem::kNone};
  }
  bool known = name.empty();
  for (const InstructionSet& set : instruction_sets()) {
    if (name.empty() ? !set.is_for(compute_type) : name != set.name) continue;
    known = true;
    if (!set.supported || (set.made_for == compute_type && set.ask && !set.ask())) continue;
    return {make_cpu_backend(set.kernels(compute_type)), BackendProblem::kNone};
  }
  return {nullptr, known ? BackendProblem::kNotOnThisMachine : BackendProblem::kUnknownName};
}

}  // namespace vlt
