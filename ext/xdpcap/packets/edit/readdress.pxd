from libc.stdint cimport uint32_t

from xdpcap.packets.edit.address_map cimport AddressRules


cdef void readdress(const AddressRules *rules, unsigned char *frame,
                    uint32_t length) noexcept nogil
