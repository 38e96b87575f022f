// Which backends this library has, and the choice among them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace vlt {

// Names of the CPU backends built in, best first; "reference" is last and never chosen by itself.
std::vector<std::string> cpu_backend_names();

enum class BackendProblem { kNone, kUnknownName, kNotOnThisMachine };

struct BackendChoice {
  std::unique_ptr<Backend> backend;  // null where there is a problem
  BackendProblem problem = BackendProblem::kNone;
};

// The named CPU backend, or the best this machine can run where the name is empty.
BackendChoice choose_cpu_backend(const std::string& name);

}  // namespace vlt
