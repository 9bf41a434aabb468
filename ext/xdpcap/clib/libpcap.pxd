"""Declarations of libpcap (pcap/pcap.h, pcap/bpf.h); nothing else."""

from libc.stdint cimport uint32_t
from libc.stdio cimport FILE


cdef extern from "<pcap/pcap.h>" nogil:
    ctypedef struct pcap_t:
        pass

    struct timeval:
        long tv_sec
        long tv_usec

    struct pcap_pkthdr:
        timeval ts
        uint32_t caplen
        uint32_t len

    struct bpf_insn:
        unsigned short code
        unsigned char jt
        unsigned char jf
        uint32_t k

    struct bpf_program:
        unsigned bf_len
        bpf_insn *bf_insns

    int PCAP_ERRBUF_SIZE
    int PCAP_TSTAMP_PRECISION_NANO
    int PCAP_ERROR
    int PCAP_ERROR_BREAK
    int DLT_EN10MB
    int DLT_RAW
    int DLT_IPV4
    int DLT_IPV6

    pcap_t *pcap_fopen_offline_with_tstamp_precision(FILE *file, unsigned precision, char *errbuf)
    int pcap_next_ex(pcap_t *p, pcap_pkthdr **header, const unsigned char **data)
    int pcap_datalink(pcap_t *p)
    const char *pcap_datalink_val_to_name(int linktype)
    char *pcap_geterr(pcap_t *p)
    void pcap_close(pcap_t *p)
    int pcap_compile(pcap_t *p, bpf_program *program, const char *expression, int optimize,
                     uint32_t netmask)
    void pcap_freecode(bpf_program *program)
    unsigned bpf_filter(const bpf_insn *insns, const unsigned char *packet, unsigned wire_len,
                        unsigned caplen)
    int bpf_validate(const bpf_insn *insns, int count)
