// Whether this process may use AMX's tiles.
#pragma once

namespace vlt {

// The processor has tiles of bfloat16, the operating system saves them, and it has let this process
// have them: Linux wants to be asked (arch_prctl), since they make every thread's state larger.
bool may_use_amx();

}  // namespace vlt
