"""The logo as SVG: cells of a label table, present, absent and unknown."""

_SVG = '<svg xmlns="http://www.w3.org/2000/svg"'
_CELLS = """
<rect x="1" y="1" width="9" height="9" rx="2" fill="#2f86a6"/>
<rect x="12" y="1" width="9" height="9" rx="2" fill="#c98a2b"/>
<rect x="1" y="12" width="9" height="9" rx="2" fill="#8b95a1" fill-opacity=".45"/>
<rect x="12" y="12" width="9" height="9" rx="2" fill="#2f86a6"/>
"""

MARK = f'{_SVG} width="22" height="22" viewBox="0 0 22 22">{_CELLS}</svg>'
FULL = f"""{_SVG} width="190" height="22" viewBox="0 0 190 22">{_CELLS}
<text x="30" y="16.5" font-family="Helvetica, Arial, sans-serif" font-size="15"
font-weight="600" fill="#71808d">COCONut attributes</text></svg>"""
