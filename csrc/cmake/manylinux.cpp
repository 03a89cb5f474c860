// SPDX-License-Identifier: Apache-2.0
// Symbols that a newer compiler or C library would make a library ask for in versions that
// manylinux_2_28 does not have. Linked into each library of a wheel (TORCH_GUMBEL_PORTABLE).
#include <sstream>

// GLIBC_2.32, read by libstdc++'s shared_ptr. 0: there may be other threads.
extern "C" {
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}

// GLIBCXX_3.4.29.
template std::string std::basic_stringbuf<char>::str() const &;
template std::string std::basic_stringbuf<char>::str() &&;

// GLIBC_2.29 has versions of their own of these; -Wl,--wrap=log,--wrap=exp brings calls here.
#if defined(__x86_64__)
__asm__(".symver log_first,log@GLIBC_2.2.5");
__asm__(".symver exp_first,exp@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver log_first,log@GLIBC_2.17");
__asm__(".symver exp_first,exp@GLIBC_2.17");
#endif
extern "C" {
double log_first(double);
double exp_first(double);
__attribute__((visibility("hidden"))) double __wrap_log(double x) { return log_first(x); }
__attribute__((visibility("hidden"))) double __wrap_exp(double x) { return exp_first(x); }
}
