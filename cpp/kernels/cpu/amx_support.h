// Whether AMX's tiles are there, and may be used.
#pragma once

namespace vlt {

// The processor has tiles of bfloat16, and the operating system saves them.
bool has_amx();

// Linux wants to be asked, once a process and for good: threads' states grow, and with them what a
// signal's handler needs of its stack. So only who is going to use tiles asks. False: refused.
bool ask_for_amx();

}  // namespace vlt
