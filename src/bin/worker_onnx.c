/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/onnx/onnx.h"
#include "runtime/worker.h"

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &onnx_runtime);
}
