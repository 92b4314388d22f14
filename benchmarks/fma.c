/* As many fused multiply-adds as a core does in float32: chains that wait for nothing but themselves, no memory. */
#if defined(__AVX512F__)
typedef float vector __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float vector __attribute__((vector_size(32)));
#else
typedef float vector __attribute__((vector_size(16)));
#endif
#if defined(__AVX512F__)
enum { CHAINS = 20 };
#else
enum { CHAINS = 12 }; /* of 16 registers, so that none goes to memory */
#endif

/* Does `steps` times CHAINS fused multiply-adds of whole vectors; returns the floating-point operations done. */
double multiply_add(long steps) {
    vector sums[CHAINS], factor = {0}, term = {0};
    factor += 0.999f;
    term += 0.001f;
    for (int chain = 0; chain < CHAINS; chain++) sums[chain] = term * (float)chain;
    for (long step = 0; step < steps; step++) {
#pragma GCC unroll 20
        for (int chain = 0; chain < CHAINS; chain++) sums[chain] = sums[chain] * factor + term;
    }
    vector total = {0};
    for (int chain = 0; chain < CHAINS; chain++) total += sums[chain];
    __asm__ volatile("" : : "x"(total));
    return 2.0 * (sizeof(vector) / sizeof(float)) * CHAINS * (double)steps;
}
