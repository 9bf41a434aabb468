from libc.stdint cimport uint16_t, uint32_t

from xdpcap.packets.edit.address_map cimport AddressMap, AddressRules


cdef enum VlanKind:
    VLAN_LEAVE = 0
    VLAN_ADD = 1
    VLAN_DELETE = 2
    VLAN_SET = 3


cdef struct Edits:
    bint dst
    bint src
    unsigned char[6] dst_mac
    unsigned char[6] src_mac
    VlanKind vlan
    uint16_t vlan_id
    uint32_t shortest           # what becomes shorter than this is filled up to it
    const AddressRules *addresses   # NULL: leave them


cdef class Rewriter:
    cdef Edits edits
    cdef AddressMap map         # whose rules `edits.addresses` points to
