// The choices a model makes that reach into kernels. No includes: instruction-set files use it.
#pragma once

namespace vlt {

enum class Activation { kIdentity, kRelu, kGelu, kGeluTanh, kSilu, kTanh, kSigmoid };

enum class PoolingMode { kCls, kLastToken, kMax, kMean, kMeanSqrtLen, kWeightedMean };

}  // namespace vlt
