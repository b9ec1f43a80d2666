"""Style of the page: light and dark, from a phone's width on."""

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--sheet:#f6f7f9;--ink:#1a1d21;--soft:#545b64;--rule:#d5d9df;
--one:#1d5fd0;--two:#b4500b;--three:#7b3fb5}
@media (prefers-color-scheme:dark){:root{--paper:#14171b;--sheet:#1d2127;--ink:#e9ebee;--soft:#a7afba;
--rule:#3a414b;--one:#75aaff;--two:#f2a25c;--three:#c79bf2}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.25rem 0 .75rem}
p{margin:.4rem 0;overflow-wrap:anywhere}
.soft,caption,figcaption{color:var(--soft)}
dl.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.25rem 0 0}
dl.tiles div{background:var(--sheet);border-radius:.5rem;padding:.6rem .8rem}
dt{color:var(--soft);font-size:.85rem}
dd{margin:0;font-size:1.15rem;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
dd small{display:block;color:var(--soft);font-size:.8rem}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1rem}
figure{margin:0;background:var(--sheet);border-radius:.5rem;padding:.75rem;min-width:0}
figcaption{font-size:.9rem;margin-bottom:.25rem}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font-size:16px}
@media (max-width:30rem){svg text{font-size:18px}}
svg path{fill:none;stroke-width:1}
.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}
svg path.line{stroke-width:2.25}
path.one{stroke:var(--one)}path.two{stroke:var(--two)}path.three{stroke:var(--three)}
circle.one{fill:var(--one)}circle.two{fill:var(--two)}circle.three{fill:var(--three)}
circle.best{fill:none;stroke-width:2}
circle.one.best{stroke:var(--one)}circle.two.best{stroke:var(--two)}circle.three.best{stroke:var(--three)}
svg path.level{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4}
.bar{fill:var(--one);opacity:.3}.dot{fill:var(--one);opacity:.45}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:.4rem 0 0;padding:0;
font-size:.85rem}
ul.legend li::before{content:"";display:inline-block;width:1.1rem;border-top:3px solid;
margin-right:.4rem;
vertical-align:.25em}
ul.legend .one::before{color:var(--one)}ul.legend .two::before{color:var(--two)}
ul.legend .three::before{color:var(--three)}
ul.legend .level::before{color:var(--soft);border-top-style:dashed}
.scroll{overflow-x:auto;max-width:100%}
.scroll:focus-visible,summary:focus-visible{outline:3px solid var(--one);outline-offset:2px}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-size:.85rem;padding-bottom:.3rem}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--rule);text-align:right}
th[scope=row],thead th:first-child{text-align:left;font-weight:600;min-width:5rem;max-width:16rem;
overflow-wrap:break-word}
.scroll+.scroll{margin-top:1rem}
td.text{text-align:left}
td.meter{min-width:7rem;background:linear-gradient(to right,
color-mix(in srgb,var(--one) 35%,transparent) calc(var(--share)*100%),transparent 0)}
table.matrix td{text-align:center;border:1px solid var(--rule);min-width:2.6rem;
background:color-mix(in srgb,var(--one) calc(var(--share)*45%),transparent)}
table.matrix td.right{font-weight:700;outline:2px solid var(--rule);outline-offset:-2px}
table.matrix thead th{vertical-align:bottom;text-align:center}
table.matrix.wide thead th:not(:first-child) span{writing-mode:vertical-rl;max-height:11rem;overflow:hidden}
ol.errors{list-style:none;margin:0;padding:0;display:grid;gap:.6rem}
ol.errors li{background:var(--sheet);border-radius:.5rem;padding:.6rem .8rem;overflow-wrap:anywhere}
ol.errors p.soft{font-size:.88rem;margin:0 0 .2rem}
details{margin-top:.75rem}summary{cursor:pointer;color:var(--soft)}
code{font-size:.9em;overflow-wrap:anywhere}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem}
@media print{figure,dl.tiles div,ol.errors li{break-inside:avoid}}
"""
