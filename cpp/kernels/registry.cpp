#include "kernels/registry.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/reference/reference_backend.h"

namespace vlt {

std::vector<std::string> cpu_backend_names() {
  std::vector<std::string> names;
  for (const KernelTable* table : built_kernel_tables()) names.emplace_back(table->name);
  names.emplace_back("reference");
  return names;
}

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
