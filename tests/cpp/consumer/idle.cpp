// SPDX-License-Identifier: Apache-2.0
#include <torch_gumbel/torch_gumbel.h>

int main() { return 0; }
