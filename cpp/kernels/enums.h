// The choices a model makes that reach into kernels. No includes: instruction-set files use it.
#pragma once

namespace vlt {

// kLogRelu is log(1 + max(x, 0)).
enum class Activation { kIdentity, kRelu, kGelu, kGeluTanh, kSilu, kTanh, kSigmoid, kLogRelu };

// What matrices are stored in. Sums are float32, or int32 on the way to it.
enum class DType { kFloat32, kFloat16, kBFloat16, kInt8 };

constexpr unsigned element_bytes(DType dtype) {
  return dtype == DType::kFloat32 ? 4 : dtype == DType::kInt8 ? 1 : 2;
}

enum class PoolingMode { kCls, kLastToken, kMax, kMean, kMeanSqrtLen, kWeightedMean };

}  // namespace vlt
