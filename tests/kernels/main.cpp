// Runs the kernel tests of one backend: vlt_kernel_tests BACKEND[:bfloat16|:int8] [TEST], where TEST
// is one of the names below. Behind the colon stands what weights are held in, if not in float32.
// Exit status: 0 all passed, 1 some failed, 2 wrong usage, 77 this machine cannot run the backend.
#include "harness.h"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::printf("usage: vlt_kernel_tests BACKEND[:bfloat16|:int8] [TEST]\n");
    return 2;
  }
  const std::string given = argv[1];
  const std::string name = given.substr(0, given.find(':'));
  const std::string type = given.substr(name.size());
  if (!type.empty() && type != ":bfloat16" && type != ":int8") {
    std::printf("no weights are held in %s\n", type.c_str());
    return 2;
  }
  const vlt::DType weights = type == ":bfloat16" ? vlt::DType::kBFloat16
                             : type == ":int8"   ? vlt::DType::kInt8
                                                 : vlt::DType::kFloat32;
  const vlt::BackendChoice choice = vlt::choose_cpu_backend(name, weights);
  if (choice.problem == vlt::BackendProblem::kNotOnThisMachine) return 77;
  if (!choice.backend) {
    std::printf("no backend is named %s\n", argv[1]);
    return 2;
  }
  const std::string wanted = argc == 3 ? argv[2] : "";
  int failed = 0, run = 0;
  const auto run_if_wanted = [&](const char* test_name, int (*test)(const vlt::HostBackend&)) {
    if (!wanted.empty() && wanted != test_name) return;
    failed += test(*choice.backend);
    ++run;
  };
  run_if_wanted("linear", vlt::tests::test_linear);
  run_if_wanted("attention", vlt::tests::test_attention);
  run_if_wanted("relative", vlt::tests::test_relative);
  run_if_wanted("rows", vlt::tests::test_rows);
  run_if_wanted("moves", vlt::tests::test_moves);
  run_if_wanted("red_zones", vlt::tests::test_red_zones);
  run_if_wanted("device_plan", vlt::tests::test_device_plan);
#if defined(VLT_CUDA)
  run_if_wanted("tile_choice",
                [](const vlt::HostBackend&) { return vlt::tests::test_tile_choice(); });
#endif
  return run == 0 ? 2 : failed > 0;
}
