"""Declarations of the compiler's atomic operations; nothing else."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from * nogil:
    int __ATOMIC_RELAXED
    int __ATOMIC_ACQUIRE
    int __ATOMIC_RELEASE
    int atomic_load_int "__atomic_load_n"(int *p, int order)
    void atomic_store_int "__atomic_store_n"(int *p, int value, int order)
    int64_t atomic_load_i64 "__atomic_load_n"(int64_t *p, int order)
    int64_t atomic_sub_i64 "__atomic_sub_fetch"(int64_t *p, int64_t value, int order)
    uint32_t atomic_load_u32 "__atomic_load_n"(const uint32_t *p, int order)
    uint64_t atomic_load_u64 "__atomic_load_n"(const uint64_t *p, int order)
    void atomic_store_u64 "__atomic_store_n"(uint64_t *p, uint64_t value, int order)
