// Which backends this library has, and the choice among them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/device.h"

namespace vlt {

// Names of the CPU backends built in, best first; "reference" is last and never chosen by itself.
std::vector<std::string> cpu_backend_names();

enum class BackendProblem { kNone, kUnknownName, kNotOnThisMachine, kOnlyInFloat32 };

struct BackendChoice {
  std::unique_ptr<HostBackend> backend;  // null where there is a problem
  BackendProblem problem = BackendProblem::kNone;
};

// A CUDA device, or why there is none to be had.
struct CudaChoice {
  std::unique_ptr<DeviceBackend> backend;
  std::string problem;  // a sentence; empty where there is a backend
};

// device_index among the CUDA devices of this machine.
CudaChoice choose_cuda_backend(int device_index, DType compute_type);

// Architectures that kernels were compiled for, "80" or "90a"; empty without CUDA.
std::vector<std::string> cuda_architectures();

// The named CPU backend, or the best this machine can run where the name is empty. compute_type:
// kFloat32, kBFloat16 or kInt8, in which weights are held; the reference backend has the first alone.
BackendChoice choose_cpu_backend(const std::string& name, DType compute_type = DType::kFloat32);

}  // namespace vlt
